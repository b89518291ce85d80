"""How many samples each file holds, and where a sample is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from nnlo.data.base import Arrays, Data, joined


@dataclass(frozen=True)
class Index:
    """The samples of a file list, numbered from 0 through all files."""

    files: tuple[str, ...]
    ends: tuple[int, ...]

    @classmethod
    def of(cls, files: Sequence[str], counts: Sequence[int]) -> Index:
        return cls(tuple(files), tuple(accumulate(counts)))

    @property
    def samples(self) -> int:
        return self.ends[-1] if self.ends else 0

    @property
    def largest(self) -> int:
        """The samples of the file that holds the most."""
        return max((end - begin for begin, end in zip((0, *self.ends), self.ends, strict=False)), default=0)

    def parts(self, start: int, stop: int) -> Iterator[tuple[str, int, int]]:
        """The files that hold the samples [start, stop), with the rows to read in each."""
        at = bisect_right(self.ends, start)
        while start < stop:
            begin = self.ends[at - 1] if at else 0
            until = min(stop, self.ends[at])
            if until > start:
                yield self.files[at], start - begin, until - begin
            start, at = until, at + 1

    def read(self, data: Data, start: int, stop: int) -> tuple[Arrays, Arrays]:
        """The samples [start, stop), at least one, as `data` reads them."""
        parts = [data.read_rows(*where) for where in self.parts(start, stop)]
        return joined([x for x, _ in parts]), joined([y for _, y in parts])
