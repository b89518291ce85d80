"""Training samples in parts, one for each worker, that stay where they are, and which classes there are at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from nnlo.data.base import Data, Span
from nnlo.data.dealing import even_share
from nnlo.data.fold import Fold
from nnlo.data.index import Index, within
from nnlo.errors import DataError, OptionsError
from nnlo.options import parse_params
from nnlo.registry import Registry

Classes = NDArray[np.int64]
"""The class of each sample of an index, shape (samples,)."""

#: Draws of a Dirichlet split, until each worker has a sample.
DRAWS = 100


@dataclass(frozen=True)
class Part(Index):
    """Some samples of `whole`, numbered from 0: of each file those at the places `chosen` among its own there."""

    whole: Index
    chosen: tuple[tuple[Span, ...], ...]

    @classmethod
    def within(cls, whole: Index, chosen: Sequence[Sequence[Span]]) -> Part:
        """`chosen`: of each file, in order."""
        counts = (sum(high - low for low, high in spans) for spans in chosen)
        return cls(whole.files, tuple(accumulate(counts)), whole, tuple(tuple(spans) for spans in chosen))

    @classmethod
    def where(cls, whole: Index, mask: NDArray[np.bool_]) -> Part:
        """The samples for which `mask`, shape (samples,), is true."""
        return cls.within(whole, [runs(mask[begin:end]) for begin, end in pairwise((0, *whole.ends))])

    def spans(self, at: int) -> list[Span]:
        whole = self.whole.spans(at)
        return [span for low, high in self.chosen[at] for span in within(whole, low, high)]


def runs(mask: NDArray[np.bool_]) -> list[Span]:
    """Where it is true, as [low, high) each, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False])).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def classes_of(data: Data, index: Index, flag: str) -> Classes:
    """The class of every sample, by its label: a whole number, or the place of the 1 in a row of 0s.

    Raises DataError for labels that are no classes.
    """
    found = [one_file(data.read_labels(file, spans), file, flag) for file, spans in index.by_file(0, index.samples)]
    return np.concatenate(found)


def one_file(labels: object, file: str, flag: str) -> Classes:
    array = np.asarray(labels[0] if isinstance(labels, (list, tuple)) else labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim == 2 and ((array == 0) | (array == 1)).all() and (array.sum(1) == 1).all():
        return np.asarray(array.argmax(1), dtype=np.int64)
    if array.ndim == 1 and (array == np.floor(array)).all() and (array >= 0).all():
        return np.asarray(array, dtype=np.int64)
    raise DataError(f"{file}: {flag} takes classes, and the labels are {array.dtype} of shape {array.shape}: drop it")


def check_classes(text: str) -> list[int]:
    """The classes that "0-4,7" names. Raises OptionsError."""
    found: set[int] = set()
    for word in text.split(","):
        low, dash, high = (part.strip() for part in word.partition("-"))
        if not low.isdecimal() or (dash and not high.isdecimal()) or (dash and int(high) < int(low)):
            raise OptionsError(f"--classes must be numbers of classes, such as 0-4 or 0,3,7, not {text!r}")
        found.update(range(int(low), int(high or low) + 1))
    return sorted(found)


def of_classes(data: Data, index: Index, text: str) -> Index:
    """The samples of these classes alone. Raises DataError where there are none."""
    own = Part.where(index, np.isin(classes_of(data, index, f"--classes {text}"), check_classes(text)))
    if not own.samples:
        raise DataError(f"--classes {text}: none of {index.samples} samples is of these: name others")
    return own


# Splits.


@dataclass(frozen=True)
class DataSplit:
    """Who has which training samples: "even", "shared", "label" or "dirichlet:alpha=0.5"."""

    name: str
    alpha: float = 0.5

    @classmethod
    def of(cls, text: str) -> DataSplit:
        """Raises OptionsError."""
        name, _, rest = text.partition(":")
        if name not in SPLITS:
            raise OptionsError(f"--data-split: unknown value {text!r}: choose one of {', '.join(SPLITS)}")
        settings = parse_params(rest)
        alpha = settings.pop("alpha", None) if name == "dirichlet" else None
        if settings:
            raise OptionsError(f"--data-split {text}: {name} has no setting '{min(settings)}'")
        if alpha is not None and (isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not alpha > 0):
            raise OptionsError(f"--data-split {text}: alpha must be a number above 0")
        return cls(name) if alpha is None else cls(name, float(alpha))

    def __str__(self) -> str:
        return f"{self.name}:alpha={self.alpha:g}" if self.name == "dirichlet" else self.name

    def parts(self, data: Data, index: Index, workers: int, seed: int) -> list[Index]:
        """The samples of each worker. Raises DataError where one would have none."""
        return SPLITS[self.name](self, data, index, workers, seed)


Divide = Callable[[DataSplit, Data, Index, int, int], "list[Index]"]
SPLITS: Registry[Divide] = Registry("data split")


def evenly(split: DataSplit, data: Data, index: Index, workers: int, seed: int) -> list[Index]:
    """As many parts, whose sizes differ by one sample at most, each from all over every file (see `nnlo.data.fold`)."""
    if workers == 1:
        return [index]
    folds = (Fold(number, workers).split(index, seed)[1] for number in range(workers))
    return [Part.within(index, [fold.spans(at) for at in range(len(index.files))]) for fold in folds]


def shared(split: DataSplit, data: Data, index: Index, workers: int, seed: int) -> list[Index]:
    """All of them have all."""
    return [index] * workers


def by_label(split: DataSplit, data: Data, index: Index, workers: int, seed: int) -> list[Index]:
    """Whole classes, as nearly as many for each worker as can be; with more workers than classes some share one."""
    classes = classes_of(data, index, f"--data-split {split}")
    present = np.unique(classes)
    owner = np.empty(len(classes), dtype=np.int64)
    if workers <= len(present):
        for worker in range(workers):
            first, stop = even_share(len(present), worker, workers)
            owner[np.isin(classes, present[first:stop])] = worker
    else:
        rng = np.random.default_rng(seed)
        for place, one in enumerate(present):
            first, stop = even_share(workers, place, len(present))
            own = rng.permutation(np.flatnonzero(classes == one))
            owner[own] = first + np.arange(len(own)) % (stop - first)
    return owned(index, owner, workers, split)


def by_dirichlet(split: DataSplit, data: Data, index: Index, workers: int, seed: int) -> list[Index]:
    """Of each class shares drawn from a symmetric Dirichlet distribution (Hsu et al. 2019, arXiv 1909.06335)."""
    classes, rng = classes_of(data, index, f"--data-split {split}"), np.random.default_rng(seed)
    owner = np.empty(len(classes), dtype=np.int64)
    for _ in range(DRAWS):
        for one in np.unique(classes):
            own = rng.permutation(np.flatnonzero(classes == one))
            ends = np.cumsum(rng.dirichlet([split.alpha] * workers))[:-1]
            owner[own] = np.searchsorted(ends * len(own), np.arange(len(own)), side="right")
        if len(np.unique(owner)) == workers:
            break
    return owned(index, owner, workers, split)


def owned(index: Index, owner: Classes, workers: int, split: DataSplit) -> list[Index]:
    """The part of each worker, from the number of the one who has each sample. Raises DataError for an empty one."""
    parts = [Part.where(index, owner == worker) for worker in range(workers)]
    empty = [number for number, part in enumerate(parts, 1) if not part.samples]
    if empty:
        raise DataError(f"--data-split {split}: worker {empty[0]} of {workers} would have no sample: start fewer ranks")
    return list(parts)


SPLITS.register("even", evenly)
SPLITS.register("shared", shared)
SPLITS.register("label", by_label)
SPLITS.register("dirichlet", by_dirichlet)
