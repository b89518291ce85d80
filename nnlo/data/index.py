"""How many samples each file holds, and where a sample is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby

from nnlo.data.base import Arrays, Data, Span, joined


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
            begin = self._begin(at)
            until = min(stop, self.ends[at])
            for low, high in within(self.spans(at), start - begin, until - begin):
                yield self.files[at], low, high
            start, at = until, at + 1

    def by_file(self, start: int, stop: int) -> Iterator[tuple[str, list[Span]]]:
        """The same, all rows of a file together."""
        for file, parts in groupby(self.parts(start, stop), key=lambda part: part[0]):
            yield file, [(low, high) for _, low, high in parts]

    def spans(self, at: int) -> list[Span]:
        """The rows of file number `at` that are numbered here, in order."""
        return [(0, self.ends[at] - self._begin(at))]

    def _begin(self, at: int) -> int:
        return self.ends[at - 1] if at else 0

    def read(self, data: Data, start: int, stop: int) -> tuple[Arrays, Arrays]:
        """The samples [start, stop), at least one, as `data` reads them."""
        parts = [data.read_spans(file, spans) for file, spans in self.by_file(start, stop)]
        return joined([x for x, _ in parts]), joined([y for _, y in parts])


def within(spans: Sequence[Span], start: int, stop: int) -> Iterator[Span]:
    """What holds the places [start, stop) of `spans` laid one after another."""
    for low, high in spans:
        first, last = low + max(start, 0), min(low + stop, high)
        if first < last:
            yield first, last
        start, stop = start - (high - low), stop - (high - low)
