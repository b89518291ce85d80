"""Where batches come from: the class that users subclass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from nnlo.errors import DataError, OptionsError

Arrays: TypeAlias = "np.ndarray[Any, Any] | list[np.ndarray[Any, Any]]"


class Data:
    """Samples in files, or made by a generator of your own.

    Override `load_data(file) -> (x, y)` and nnlo shards the samples, shuffles them and deals batches.
    Override `generate_data()` instead and batches are yours: if it reads `self.file_names`, each worker
    finds its own share of the files there; if it reads no files, every worker runs it whole and batch k
    is trained by worker k mod `num_workers`, unless `shards_itself` is True, when each worker trains all
    that its own copy yields.

    Arrays have the samples along axis 0; lists of arrays stand for several inputs or outputs. A row of
    `x` and the same row of `y` belong together.
    """

    shards_itself = False

    def __init__(self, batch_size: int) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise OptionsError(f"--batch must be at least 1, not {batch_size!r}")
        self.batch_size = batch_size
        self.worker = 0
        self.num_workers = 1
        self.reads_files = False
        self._file_names: list[str] = []

    @property
    def file_names(self) -> list[str]:
        """The files of this rank."""
        self.reads_files = True
        return self._file_names

    @file_names.setter
    def file_names(self, names: Sequence[str]) -> None:
        self._file_names = list(names)

    def load_data(self, file: str) -> tuple[Arrays, Arrays]:
        """All samples of one file, as (x, y)."""
        raise OptionsError(f"{type(self).__name__} overrides neither load_data nor generate_data: define one of them")

    def count_data(self) -> int:
        """The samples of one epoch of this rank's. Override it where counting is cheaper than reading."""
        if self.makes_batches:
            return sum(rows(y) for _, y in self.generate_data())
        return sum(self.count_file(file) for file in self.file_names)

    def generate_data(self) -> Iterator[tuple[Arrays, Arrays]]:
        """One epoch of (x, y) batches, here in the order of the files."""
        left: tuple[Arrays, Arrays] | None = None
        for file in self.file_names:
            loaded = self.load_data(file)
            x, y = loaded if left is None else tuple(map(joined, left, loaded))
            whole = rows(y) // self.batch_size * self.batch_size
            for start in range(0, whole, self.batch_size):
                yield part(x, start, start + self.batch_size), part(y, start, start + self.batch_size)
            left = part(x, whole, rows(y)), part(y, whole, rows(y))
        if left is not None and rows(left[1]):
            yield left

    @property
    def makes_batches(self) -> bool:
        """Whether `generate_data` is the user's own, so that batches cannot be dealt by their numbers."""
        return type(self).generate_data is not Data.generate_data

    def count_file(self, file: str) -> int:
        """The samples in one file."""
        x, y = self.read_rows(file, 0, None)
        return checked_rows(file, x, y)

    def read_rows(self, file: str, start: int, stop: int | None) -> tuple[Arrays, Arrays]:
        """Samples [start, stop) of one file."""
        x, y = self.load_data(file)
        return part(x, start, stop), part(y, start, stop)


def rows(arrays: Arrays) -> int:
    """The number of samples."""
    return len(arrays[0]) if isinstance(arrays, list) else len(arrays)


def part(arrays: Arrays, start: int, stop: int | None) -> Arrays:
    """The samples [start, stop)."""
    return [a[start:stop] for a in arrays] if isinstance(arrays, list) else arrays[start:stop]


def joined(first: Arrays, second: Arrays) -> Arrays:
    """The samples of both, one after the other."""
    if isinstance(first, list):
        return [np.concatenate(pair) for pair in zip(first, second, strict=True)]
    return np.concatenate([first, np.asarray(second)])


def checked_rows(file: str, x: Arrays, y: Arrays) -> int:
    """The number of samples, which must be the same in all arrays."""
    lengths = {len(a) for arrays in (x, y) for a in (arrays if isinstance(arrays, list) else [arrays])}
    if len(lengths) > 1:
        raise DataError(f"{file}: features and labels have different lengths: {', '.join(map(str, sorted(lengths)))}")
    return lengths.pop()
