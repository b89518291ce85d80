"""What a preparer is, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nnlo.data.prepare.pieces import Split


@dataclass(frozen=True)
class Preparer:
    """How one data set is made.

    `load(source)` returns its samples; `source` is the user's folder of downloaded files, or None.
    `pieces` are the default numbers of files for training and test samples; `suits` are training
    options that suit its size, by name. `model` is a ready-made one that takes it. `at_hand`: it can be
    made without files and without fetching.
    """

    load: Callable[[Path | None], Split]
    pieces: tuple[int, int]
    suits: Mapping[str, int]
    model: str = "mnist"
    at_hand: bool = False


@dataclass(frozen=True)
class Prepared:
    """A data set on disk: its lists, and how many (training, test) files they name.

    `samples` are the numbers of samples where the set was made just now, None where it was there already.
    """

    name: str
    train_list: Path
    test_list: Path
    pieces: tuple[int, int]
    samples: tuple[int, int] | None
