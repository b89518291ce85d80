"""Looking at the data before training: what each file holds, and one small batch of it.

Each rank looks at its share of the files; what it found is shared, and what is wrong is told once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from nnlo.comm.agree import agree, everywhere, share
from nnlo.comm.base import Transport
from nnlo.data.base import Arrays, Data, rows
from nnlo.data.index import Index
from nnlo.errors import DataError

#: Files named in one complaint.
NAMED_FILES = 10
#: Samples tried on the model before training.
SAMPLE_ROWS = 2


@dataclass(frozen=True)
class Sample:
    """A few samples, and the bytes that one takes."""

    x: Arrays
    y: Arrays

    @property
    def bytes_each(self) -> int:
        arrays = [a for part in (self.x, self.y) for a in (part if isinstance(part, list) else [part])]
        return sum(a.nbytes for a in arrays) // max(1, rows(self.y))


async def count_files(transport: Transport, data: Data, files: Sequence[str]) -> Index:
    """The index of a file list. Raises DataError on every rank, naming all bad files."""
    share_of_files = files[transport.rank :: transport.size]
    mine = await everywhere(transport, lambda: [count_file(data, file) for file in share_of_files])
    found: list[list[int | str]] = await share(transport, mine)
    counts = [found[i % transport.size][i // transport.size] for i in range(len(files))]
    if faults := [fault for fault in counts if isinstance(fault, str)]:
        more = [f"and {len(faults) - NAMED_FILES} more files"] if len(faults) > NAMED_FILES else []
        await agree(transport, DataError("; ".join(faults[:NAMED_FILES] + more)))
    return Index.of(files, [int(count) for count in counts])


def count_file(data: Data, file: str) -> int | str:
    """The samples of a file, or what is wrong with it."""
    try:
        return data.count_file(file)
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"{file}: {error.strerror or error}"


def first_rows(data: Data, index: Index) -> Sample:
    """A few samples from the beginning."""
    x, y = index.read(data, 0, min(SAMPLE_ROWS, index.samples))
    return Sample(x, y)


def first_batch(data: Data) -> Sample | None:
    """The first batch of a user's generator, None where it yields none."""
    for x, y in islice(data.generate_data(), 1):
        return Sample(x, y)
    return None
