"""Ready-to-train data sets: named preparers that leave HDF5 pieces and two file lists.

    done = prepare("digits")
    done.train_list, done.test_list

A new data set is one file with its `load` and one line below.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnlo.data.prepare import cifar10, digits, mnist
from nnlo.data.prepare.base import Prepared, Preparer
from nnlo.data.prepare.home import data_home, prepared, read_list
from nnlo.data.prepare.pieces import Images, Samples, Split, write_set
from nnlo.errors import DataError, OptionsError
from nnlo.registry import Registry

__all__ = [
    "Images",
    "Prepared",
    "Preparer",
    "Samples",
    "Split",
    "data_home",
    "prepare",
    "prepared",
    "preparers",
    "ready",
]

preparers: Registry[Preparer] = Registry("data set")
preparers.register("digits", Preparer(digits.load, pieces=(4, 1), suits={"batch": 50, "epochs": 20}, at_hand=True))
preparers.register("mnist", Preparer(mnist.load, pieces=(24, 4), suits={"batch": 100, "epochs": 3}))
preparers.register(
    "cifar10", Preparer(cifar10.load, pieces=(25, 5), suits={"batch": 100, "epochs": 20}, model="cifar10")
)


def ready(names: Sequence[str]) -> str | None:
    """The first of these data sets that is prepared, or that can be made here and now; None where there is none."""
    wanted = [preparers.canonical(name) for name in names]
    return next((name for name in wanted if prepared(name) or preparers[name].at_hand), None)


def prepare(
    name: str,
    dest: Path | None = None,
    source: Path | None = None,
    *,
    train_pieces: int | None = None,
    test_pieces: int | None = None,
    overwrite: bool = False,
) -> Prepared:
    """Make the data set `name` under `dest` (default `data_home()`) and return its lists.

    A set that is complete there already is left alone unless `overwrite`. `source` is a folder of
    downloaded files, for the data sets that have some; the numbers of pieces default to the set's own.
    Raises OptionsError for an unknown name or impossible pieces, DataError for files that cannot be used.
    """
    name = preparers.canonical(name)
    folder = (data_home() if dest is None else dest).expanduser().absolute()
    if not overwrite and prepared(name, folder) is not None:
        return as_wanted(found(name, folder), train_pieces, test_pieces)
    preparer = preparers[name]
    split = preparer.load(source)
    chosen = zip((train_pieces, test_pieces), preparer.pieces, strict=True)
    train, test = (default if count is None else count for count, default in chosen)
    write_set(name, folder, split, (train, test), overwrite=overwrite)
    return found(name, folder, (len(split.train), len(split.test)))


def as_wanted(there: Prepared, train_pieces: int | None, test_pieces: int | None) -> Prepared:
    """What is there, if it is cut as asked for. Raises OptionsError."""
    for flag, wanted, pieces in zip(("train", "test"), (train_pieces, test_pieces), there.pieces, strict=True):
        if wanted not in (None, pieces):
            raise OptionsError(
                f"--{flag}-pieces {wanted}: {there.name} is there in {pieces}: --overwrite cuts it again"
            )
    return there


def found(name: str, folder: Path, samples: tuple[int, int] | None = None) -> Prepared:
    """What is in `folder` under this name; `samples` counts what was made just now."""
    lists = prepared(name, folder)
    if lists is None:
        raise DataError(f"{folder}: '{name}' went away while it was read: run it again")
    train, test = lists
    return Prepared(name, train, test, (len(read_list(train)), len(read_list(test))), samples)
