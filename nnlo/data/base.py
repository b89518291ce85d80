"""Where batches come from: the class that users subclass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from nnlo.data.cache import CacheSettings
from nnlo.errors import DataError, OptionsError

Array: TypeAlias = "np.ndarray[Any, Any]"
Arrays: TypeAlias = "Array | list[Array]"
#: The rows [start, stop) of a file.
Span: TypeAlias = "tuple[int, int]"


class Data:
    """Samples in files, or made by a generator of your own.

    Override `load_data(file) -> (x, y)` and nnlo shards the samples, shuffles them and deals batches.
    Override `generate_data()` instead and batches are yours: if it reads `self.file_names`, each worker
    finds its own share of the files there; if it reads no files, every worker runs it whole and batch k
    is trained by worker k mod `num_workers`, unless `shards_itself` is True, when each worker trains all
    that its own copy yields. Training with a generator resumes at an epoch's beginning, not within it.

    What is drawn at random in these methods should come from numpy or from a generator of your own: they
    run beside the training, which draws dropout from torch's global stream.

    `cache` is a folder into which the listed files are copied before training, once on each host, for as
    long as the run lasts; `copy_command` is the command that copies one, "cp {} {}". Where they are not
    given, the environment's DATA_CACHE and DATA_COPY_COMMAND count.

    Arrays have the samples along axis 0; lists of arrays stand for several inputs or outputs. A row of
    `x` and the same row of `y` belong together.
    """

    shards_itself = False
    #: Shuffle blocks that are read ahead of use, beyond the one in use; each is memory.
    preloading = 0

    def __init__(self, batch_size: int, cache: str | Path | None = None, copy_command: str | None = None) -> None:
        if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise OptionsError(f"--batch must be at least 1, not {batch_size!r}")
        self.batch_size = int(batch_size)
        self.cached = CacheSettings.of(cache, copy_command)
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
        """The samples that `generate_data` yields in one epoch. Override it where counting is cheaper than reading."""
        if self.makes_batches:
            return sum(rows(y) for _, y in self.checked_batches())
        return sum(self.count_file(file) for file in self.file_names)

    def generate_data(self) -> Iterator[tuple[Arrays, Arrays]]:
        """One epoch of (x, y) batches, here in the order of the files."""
        left: tuple[Arrays, Arrays] | None = None
        for file in self.file_names:
            loaded = self._load(file)
            x, y = loaded if left is None else (joined([left[0], loaded[0]]), joined([left[1], loaded[1]]))
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

    def checked_batches(self) -> Iterator[tuple[Arrays, Arrays]]:
        """One epoch of `generate_data`. Raises DataError for what is no batch."""
        what = f"generate_data() of {type(self).__name__}"
        batches = self.generate_data()
        if not isinstance(batches, Iterable):
            raise DataError(f"{what} returns {type(batches).__name__}: it must yield (x, y) batches")
        for batch in batches:
            yield checked_pair(what, batch)

    @property
    def whole_files(self) -> bool:
        """Whether a part of a file can only be had by loading all of it."""
        return True

    def inspect_file(self, file: str) -> tuple[int, str]:
        """The samples in one file, and the form of one sample, which should be the same in all files."""
        x, y = self._load(file)
        return rows(y), form([*as_list(x), *as_list(y)])

    def count_file(self, file: str) -> int:
        """The samples in one file."""
        return self.inspect_file(file)[0]

    def read_rows(self, file: str, start: int, stop: int | None) -> tuple[Arrays, Arrays]:
        """Samples [start, stop) of one file."""
        x, y = self._load(file)
        return part(x, start, stop), part(y, start, stop)

    def fill_rows(self, file: str, start: int, stop: int, x: Arrays, y: Arrays) -> None:
        """Write the samples [start, stop) of one file into `x` and `y`, which have as many rows."""
        for arrays, into in zip(self.read_rows(file, start, stop), (x, y), strict=True):
            put(file, arrays, into)

    def read_spans(self, file: str, spans: Sequence[Span]) -> tuple[Arrays, Arrays]:
        """The samples of several spans of one file, one after another."""
        if self.whole_files:
            x, y = self._load(file)
            return joined([part(x, *span) for span in spans]), joined([part(y, *span) for span in spans])
        pairs = [self.read_rows(file, *span) for span in spans]
        return joined([x for x, _ in pairs]), joined([y for _, y in pairs])

    def read_labels(self, file: str, spans: Sequence[Span]) -> Arrays:
        """The labels of the samples of several spans of one file, one after another."""
        return self.read_spans(file, spans)[1]

    def fill_spans(self, file: str, spans: Sequence[Span], x: Arrays, y: Arrays) -> None:
        """Write the samples of several spans of one file into `x` and `y`, which have as many rows."""
        if self.whole_files and len(spans) > 1:
            for arrays, into in zip(self.read_spans(file, spans), (x, y), strict=True):
                put(file, arrays, into)
            return
        at = 0
        for start, stop in spans:
            until = at + stop - start
            self.fill_rows(file, start, stop, part(x, at, until), part(y, at, until))
            at = until

    def _load(self, file: str) -> tuple[Arrays, Arrays]:
        return checked_pair(file, self.load_data(file))


def as_list(arrays: Arrays) -> list[Array]:
    return list(arrays) if isinstance(arrays, (list, tuple)) else [arrays]


def rows(arrays: Arrays) -> int:
    """The number of samples."""
    return len(as_list(arrays)[0])


def part(arrays: Arrays, start: int, stop: int | None) -> Arrays:
    """The samples [start, stop)."""
    return [a[start:stop] for a in arrays] if isinstance(arrays, (list, tuple)) else arrays[start:stop]


def joined(parts: Sequence[Arrays]) -> Arrays:
    """The samples of all parts, one after the other."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], (list, tuple)):
        return [np.concatenate(of_one) for of_one in zip(*parts, strict=True)]
    return np.concatenate(parts)


def put(what: str, arrays: Arrays, into: Arrays) -> None:
    """Copy arrays into others of the same shapes. Raises DataError where the shapes differ."""
    sources, targets = [np.asarray(a) for a in as_list(arrays)], as_list(into)
    if [a.shape for a in sources] != [a.shape for a in targets]:
        raise DataError(f"{what}: samples of form {form(sources)}, where other files have {form(targets)}")
    for source, target in zip(sources, targets, strict=True):
        np.copyto(target, source, casting="unsafe")


def form(arrays: Sequence[Any]) -> str:
    """Kind and shape of one sample, in words: floats of all widths are alike, since they become the model's."""
    return ", ".join(one_form(np.asarray(a).dtype, np.shape(a)) for a in arrays)


def one_form(dtype: np.dtype[Any], shape: Sequence[int]) -> str:
    kind = "float" if dtype.kind == "f" else dtype.newbyteorder("=").name
    return f"{kind} ({', '.join(map(str, shape[1:]))})"


def checked_pair(what: str, batch: Any) -> tuple[Arrays, Arrays]:
    """(x, y) of `what` if it is such a pair, all arrays with the same number of samples. Raises DataError."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise DataError(f"{what}: gives {type(batch).__name__} instead of a pair (x, y)")
    x, y = batch
    checked_rows(what, x, y)
    return x, y


def checked_rows(what: str, x: Arrays, y: Arrays) -> int:
    """The number of samples, which must be the same in all arrays."""
    arrays = [*as_list(x), *as_list(y)]
    if not as_list(x) or not as_list(y) or any(np.ndim(a) == 0 for a in arrays):
        raise DataError(f"{what}: x and y must be arrays with the samples along axis 0, or lists of such arrays")
    lengths = {len(a) for a in arrays}
    if len(lengths) > 1:
        raise DataError(f"{what}: features and labels have different lengths: {', '.join(map(str, sorted(lengths)))}")
    return lengths.pop()
