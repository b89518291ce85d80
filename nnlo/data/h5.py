"""Samples in HDF5 files: one dataset (or a group of them) for the features, one for the labels."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import h5py
import numpy as np

from nnlo.data.absent import NoDataset
from nnlo.data.base import Array, Arrays, Data, Span, as_list, checked_pair, joined, one_form, part, put
from nnlo.data.h5_files import check_filters, fault_of, names_in, open_file
from nnlo.errors import DataError, OptionsError

Adaptor: TypeAlias = Callable[[Arrays], Arrays]
Name: TypeAlias = "str | tuple[str, Adaptor]"

#: Files kept open at a time.
OPEN_FILES = 4


class H5Data(Data):
    """Samples in HDF5 files.

    `features_name` and `labels_name` name datasets of equal length, or groups, which stand for a list
    of datasets, alphabetical by key. A name may come with an adaptor, `("name", function)`: the
    function gets the arrays that were read and returns the arrays to train on, of the same length.
    `preloading`: shuffle blocks (about files) that a thread reads ahead of use. Compressed and chunked
    datasets are read as they are; filters that HDF5 itself lacks come with the package hdf5plugin.
    """

    def __init__(
        self,
        batch_size: int,
        features_name: Name = "features",
        labels_name: Name = "labels",
        preloading: int = 0,
        cache: str | Path | None = None,
        copy_command: str | None = None,
    ) -> None:
        super().__init__(batch_size, cache, copy_command)
        if not isinstance(preloading, int) or preloading < 0:
            raise OptionsError(f"--preload-data must be a whole number, at least 0, not {preloading!r}")
        self.preloading = preloading
        self._features = Column.of(features_name, "--features-name")
        self._labels = Column.of(labels_name, "--labels-name")
        self._open: OrderedDict[str, h5py.File] = OrderedDict()
        self._datasets: dict[tuple[str, Column], list[h5py.Dataset]] = {}
        self._pid = os.getpid()

    @property
    def features_name(self) -> str:
        return self._features.name

    @property
    def labels_name(self) -> str:
        return self._labels.name

    @property
    def whole_files(self) -> bool:
        """Not unless a subclass has a `load_data` of its own, which is then what all samples come through."""
        return type(self).load_data is not H5Data.load_data

    def load_data(self, file: str) -> tuple[Arrays, Arrays]:
        return self._read(file, 0, None)

    def inspect_file(self, file: str) -> tuple[int, str]:
        """Without reading a sample: how many there are, and their form as stored."""
        if self.whole_files:
            return super().inspect_file(file)
        with self._opened(file) as handle:
            columns = (self._features, self._labels)
            found = {column.name: self._found(column, handle, file) for column in columns}
            lengths = {name: sorted({len(dataset) for dataset in datasets}) for name, datasets in found.items()}
            if len({length for several in lengths.values() for length in several}) > 1:
                told = ", ".join(f"'{name}' has {' and '.join(map(str, several))}" for name, several in lengths.items())
                raise DataError(f"{file}: features and labels have different lengths: {told}")
            datasets = [dataset for several in found.values() for dataset in several]
            return len(datasets[0]), ", ".join(one_form(dataset.dtype, dataset.shape) for dataset in datasets)

    def read_rows(self, file: str, start: int, stop: int | None) -> tuple[Arrays, Arrays]:
        return super().read_rows(file, start, stop) if self.whole_files else self._read(file, start, stop)

    def read_labels(self, file: str, spans: Sequence[Span]) -> Arrays:
        if self.whole_files or not spans:
            return super().read_labels(file, spans)
        low, high = spans[0][0], spans[-1][1]
        with self._opened(file) as handle:
            raw = self._labels.raw(handle, self._found(self._labels, handle, file), low, high)
        labels = self._labels.adapted(raw)
        return joined([part(labels, start - low, stop - low) for start, stop in spans])

    def fill_rows(self, file: str, start: int, stop: int, x: Arrays, y: Arrays) -> None:
        if self.whole_files:
            super().fill_rows(file, start, stop, x, y)
            return
        columns = ((self._features, x), (self._labels, y))
        with self._opened(file) as handle:
            late = []
            for column, into in columns:
                datasets = self._found(column, handle, file)
                if not column.fill(datasets, start, stop, into):
                    late.append((column, column.raw(handle, datasets, start, stop), into))
        for column, raw, into in late:
            put(file, column.adapted(raw), into)

    def _read(self, file: str, start: int, stop: int | None) -> tuple[Arrays, Arrays]:
        with self._opened(file) as handle:
            x, y = (
                column.raw(handle, self._found(column, handle, file), start, stop)
                for column in (self._features, self._labels)
            )
        return checked_pair(file, (self._features.adapted(x), self._labels.adapted(y)))

    def _found(self, column: Column, handle: h5py.File, file: str) -> list[h5py.Dataset]:
        """The column's datasets, which stay open with their file: HDF5 keeps the chunks that it unpacked last."""
        if (file, column) not in self._datasets:
            self._datasets[file, column] = column.datasets(handle, file)
        return self._datasets[file, column]

    @contextmanager
    def _opened(self, file: str) -> Iterator[h5py.File]:
        """The open file; handles do not survive a fork, so each process opens its own. Raises DataError."""
        if self._pid != os.getpid():
            self._open, self._datasets, self._pid = OrderedDict(), {}, os.getpid()
        if file not in self._open:
            while len(self._open) >= OPEN_FILES:
                self._close(next(iter(self._open)))
            self._open[file] = open_file(file)
        self._open.move_to_end(file)
        try:
            yield self._open[file]
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {fault_of(error)}") from None

    def _close(self, file: str) -> None:
        for column in (self._features, self._labels):
            self._datasets.pop((file, column), None)
        self._open.pop(file).close()

    def __copy__(self) -> H5Data:
        """A copy for another rank or thread, with handles of its own."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._open, twin._datasets = OrderedDict(), {}
        return twin


@dataclass(frozen=True)
class Column:
    """A dataset or a group of them, what becomes of the arrays that are read from it, and the flag that names it."""

    name: str
    adaptor: Adaptor | None
    flag: str

    @classmethod
    def of(cls, name: Name, flag: str) -> Column:
        """From what user code gives. Raises OptionsError."""
        if isinstance(name, str):
            return cls(name, None, flag)
        if isinstance(name, (tuple, list)) and len(name) == 2 and isinstance(name[0], str) and callable(name[1]):
            return cls(*name, flag)
        raise OptionsError(f'{flag}: give a name, or ("name", function), not {name!r}')

    def datasets(self, handle: h5py.File, file: str) -> list[h5py.Dataset]:
        """The dataset of that name, or those of the group of that name. Raises DataError."""
        try:
            return self._checked(handle, file)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise DataError(f"{file}: cannot be read: damaged ({error.args[0]})") from None

    def _checked(self, handle: h5py.File, file: str) -> list[h5py.Dataset]:
        if not self.name or self.name not in handle:
            raise NoDataset(file, self.name, names_in(handle), self.flag)
        found = handle[self.name]
        found = [found[key] for key in sorted(found)] if isinstance(found, h5py.Group) else [found]
        if not found or any(not isinstance(item, h5py.Dataset) or not item.shape for item in found):
            raise DataError(f"{file}: '{self.name}' is not a dataset of samples, nor a group of such datasets")
        if self.adaptor is None and any(item.dtype.kind not in "biufc" for item in found):
            raise DataError(f"{file}: '{self.name}' does not hold numbers: name another dataset, or give an adaptor")
        for item in found:
            check_filters(file, item)
        return found

    def raw(self, handle: h5py.File, datasets: list[h5py.Dataset], start: int, stop: int | None) -> Arrays:
        arrays: list[Array] = [dataset[start:stop] for dataset in datasets]
        return arrays if isinstance(handle[self.name], h5py.Group) else arrays[0]

    def adapted(self, arrays: Arrays) -> Arrays:
        return arrays if self.adaptor is None else self.adaptor(arrays)

    def fill(self, datasets: list[h5py.Dataset], start: int, stop: int, into: Arrays) -> bool:
        """Read the rows [start, stop) straight into arrays that are there; False where that cannot be done."""
        targets = as_list(into)
        direct = [one.shape[1:] for one in datasets] == [one.shape[1:] for one in targets] and self.adaptor is None
        for dataset, target in zip(datasets, targets, strict=True) if direct else ():
            dataset.read_direct(target, np.s_[start:stop])
        return direct
