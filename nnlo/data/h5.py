"""Samples in HDF5 files: one dataset (or a group of them) for the features, one for the labels."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

import h5py
import numpy as np

from nnlo.data.base import Arrays, Data, checked_rows
from nnlo.errors import DataError

Adaptor: TypeAlias = Callable[[Arrays], Arrays]
Name: TypeAlias = "str | tuple[str, Adaptor]"

#: Files kept open at a time.
OPEN_FILES = 4


class H5Data(Data):
    """Samples in HDF5 files.

    `features_name` and `labels_name` name datasets of equal length, or groups, which stand for a list
    of datasets, alphabetical by key. A name may come with an adaptor, `("name", function)`: the
    function gets the arrays that were read and returns the arrays to train on, of the same length.
    """

    def __init__(self, batch_size: int, features_name: Name = "features", labels_name: Name = "labels") -> None:
        super().__init__(batch_size)
        self.features_name, self._adapt_features = with_adaptor(features_name)
        self.labels_name, self._adapt_labels = with_adaptor(labels_name)
        self._open: OrderedDict[str, h5py.File] = OrderedDict()
        self._pid = os.getpid()

    def load_data(self, file: str) -> tuple[Arrays, Arrays]:
        return self.read_rows(file, 0, None)

    def count_file(self, file: str) -> int:
        """The samples in one file, without reading them; checks that features and labels go together."""
        handle = self._handle(file)
        lengths = {
            int(shape[0])
            for name in (self.features_name, self.labels_name)
            for shape in (dataset.shape for dataset in datasets(handle, file, name))
        }
        if len(lengths) > 1:
            raise DataError(
                f"{file}: '{self.features_name}' and '{self.labels_name}' have different lengths: "
                f"{' and '.join(map(str, sorted(lengths)))}"
            )
        return lengths.pop()

    def read_rows(self, file: str, start: int, stop: int | None) -> tuple[Arrays, Arrays]:
        handle = self._handle(file)
        try:
            x = self._adapt_features(read(handle, file, self.features_name, start, stop))
            y = self._adapt_labels(read(handle, file, self.labels_name, start, stop))
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from None
        checked_rows(file, x, y)
        return x, y

    def _handle(self, file: str) -> h5py.File:
        """The open file; handles do not survive a fork, so each process opens its own."""
        if self._pid != os.getpid():
            self._open, self._pid = OrderedDict(), os.getpid()
        if file not in self._open:
            self._open[file] = open_file(file)
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(file)
        return self._open[file]

    def __copy__(self) -> H5Data:
        """A copy for another rank or thread, with handles of its own."""
        twin = type(self).__new__(type(self))
        twin.__dict__.update(self.__dict__)
        twin._open = OrderedDict()
        return twin


def with_adaptor(name: Name) -> tuple[str, Adaptor]:
    return name if isinstance(name, tuple) else (name, unchanged)


def unchanged(arrays: Arrays) -> Arrays:
    return arrays


def open_file(file: str) -> h5py.File:
    """Open read-only and without locks, which network disks may lack. Raises DataError."""
    if not os.path.isfile(file):
        raise DataError(f"{file}: no such file")
    try:
        return h5py.File(file, "r", locking=False)
    except OSError as error:
        fault = "truncated" if "truncated" in str(error) else "not an HDF5 file" if "signature" in str(error) else error
        raise DataError(f"{file}: cannot be read: {fault}") from None


def datasets(handle: h5py.File, file: str, name: str) -> list[h5py.Dataset]:
    """The dataset of that name, or those of the group of that name."""
    if name not in handle:
        raise DataError(f"{file}: has no dataset '{name}': it has {', '.join(sorted(handle)) or 'none'}")
    found = handle[name]
    found = [found[key] for key in sorted(found)] if isinstance(found, h5py.Group) else [found]
    if not found or any(not isinstance(item, h5py.Dataset) or not item.shape for item in found):
        raise DataError(f"{file}: '{name}' is not a dataset of samples, nor a group of such datasets")
    return found


def read(handle: h5py.File, file: str, name: str, start: int, stop: int | None) -> Arrays:
    arrays: list[np.ndarray[Any, Any]] = [dataset[start:stop] for dataset in datasets(handle, file, name)]
    return arrays if isinstance(handle[name], h5py.Group) else arrays[0]
