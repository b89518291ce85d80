"""Looking at the data before training: what each file holds, and one small batch of it.

Each rank looks at its share of the files; what it found is shared, and what is wrong is told once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from nnlo.comm.agree import agree, everywhere, share
from nnlo.comm.base import Transport
from nnlo.data.absent import NoDataset, wrong_name
from nnlo.data.base import Array, Arrays, Data, as_list, form, rows
from nnlo.data.index import Index
from nnlo.errors import DataError

#: Files named in one complaint.
NAMED_FILES = 10
#: Samples tried on the model before training.
SAMPLE_ROWS = 2

#: Samples of a file, or -1; their form, or the fault; of a dataset that is not there its name, those there, its flag.
Look: TypeAlias = "tuple[int, str, Sequence[str]]"


@dataclass(frozen=True)
class Sample:
    """A few samples, the bytes that one takes, its form in words and the shapes of its arrays."""

    x: Arrays
    y: Arrays

    @property
    def arrays(self) -> list[Array]:
        return [np.asarray(a) for a in (*as_list(self.x), *as_list(self.y))]

    @property
    def bytes_each(self) -> int:
        return sum(a.nbytes for a in self.arrays) // max(1, rows(self.y))

    @property
    def form(self) -> str:
        return form(self.arrays)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [a.shape[1:] for a in self.arrays]


async def count_files(transport: Transport, data: Data, files: Sequence[str], flag: str) -> Index:
    """The index of the file list that `flag` named. Raises DataError on every rank, naming all bad files."""
    own = files[transport.rank :: transport.size]
    mine = await everywhere(transport, lambda: [inspect_file(data, file) for file in own])
    told: list[list[Look]] = await share(transport, mine)
    looks = [told[i % transport.size][i // transport.size] for i in range(len(files))]
    if files and (wrong := wrong_name(files, [absent for _, _, absent in looks], flag)):
        await agree(transport, wrong)
    found = [(count, what) for count, what, _ in looks]
    faults = [what for count, what in found if count < 0] or odd_forms(files, found)
    if faults:
        more = [f"and {len(faults) - NAMED_FILES} more files"] if len(faults) > NAMED_FILES else []
        await agree(
            transport, DataError("; ".join(faults[:NAMED_FILES] + more) + f": correct the list ({flag}) or the files")
        )
    return Index.of(files, [count for count, _ in found])


def inspect_file(data: Data, file: str) -> Look:
    """The samples of a file and the form of one; or -1, what is wrong with the file, and what `wrong_name` wants."""
    try:
        return *data.inspect_file(file), ()
    except NoDataset as error:
        return -1, str(error), (error.name, error.there, error.flag)
    except DataError as error:
        return -1, str(error), ()
    except OSError as error:
        return -1, f"{file}: {error.strerror or error}", ()


def odd_forms(files: Sequence[str], found: Sequence[tuple[int, str]]) -> list[str]:
    """Complaints about files whose samples have another form than those of the first; empty files do not count."""
    forms = [(file, one) for file, (count, one) in zip(files, found, strict=True) if count]
    return [
        f"{file}: samples of form {one}, while {forms[0][0]} has {forms[0][1]}"
        for file, one in forms
        if one != forms[0][1]
    ]


def first_rows(data: Data, index: Index) -> Sample:
    """A few samples from the beginning."""
    x, y = index.read(data, 0, min(SAMPLE_ROWS, index.samples))
    return Sample(x, y)


def first_batch(data: Data) -> Sample | None:
    """The first batch of a user's generator that holds a sample, None where there is none."""
    return next((Sample(x, y) for x, y in data.checked_batches() if rows(y)), None)


def alike(sample: Sample, trained: Sample | None) -> Sample:
    """The validation samples, if they have the shapes of those trained on, where these are known. Raises DataError."""
    if trained is not None and sample.shapes != trained.shapes:
        raise DataError(
            f"--val-data: samples of form {sample.form}, while those of --train-data have {trained.form}: "
            "list files with samples of one form"
        )
    return sample
