"""Samples as HDF5 pieces with their file lists, never half-written.

    FOLDER/train_NAME.list, FOLDER/test_NAME.list     one piece a line: NAME/train_000.h5
    FOLDER/NAME/train_000.h5, ..., FOLDER/NAME/test_000.h5, ...

All of it is written in a scratch folder and moved into place file by file, the lists last, so that
whoever finds both lists finds whole pieces, also while two processes prepare the same set.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import h5py
import numpy as np
from numpy.typing import NDArray

from nnlo.data.prepare.home import list_paths, prepared
from nnlo.errors import DataError, OptionsError

PIECE = re.compile(r"(train|test)_\d{3,}\.h5")


class Samples(Protocol):
    """Some samples that can be turned into arrays range by range."""

    def __len__(self) -> int: ...

    def arrays(self, start: int, stop: int) -> Mapping[str, NDArray[Any]]:
        """Samples `start` to `stop` by data set name; the first dimension of each array is `stop - start`."""
        ...


class Split(NamedTuple):
    """The samples to train on and those to test on."""

    train: Samples
    test: Samples


@dataclass(frozen=True)
class Images:
    """Pictures and their classes, converted piece by piece to keep the memory small.

    `pixels` is (N, H, W, C), uint8 in 0..255 or float32 in 0..1; `labels` is (N,), integers below `classes`.
    """

    pixels: NDArray[Any]
    labels: NDArray[Any]
    classes: int

    def __len__(self) -> int:
        return len(self.labels)

    def arrays(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """`features` float32 (n, H, W, C) in 0..1 and `labels` float32 one-hot (n, classes)."""
        pixels = self.pixels[start:stop]
        scale = 255 if pixels.dtype == np.uint8 else 1
        one_hot = np.eye(self.classes, dtype=np.float32)[self.labels[start:stop]]
        return {"features": pixels.astype(np.float32) / scale, "labels": one_hot}


@dataclass(frozen=True)
class Joined:
    """The samples of several parts of one form, one part after the other, without a copy of them all."""

    parts: tuple[Samples, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def arrays(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """What the parts give for the samples `start` to `stop`, joined."""
        ends = list(itertools.accumulate(len(part) for part in self.parts))
        found = [
            part.arrays(max(start - end + len(part), 0), min(stop - end + len(part), len(part)))
            for part, end in zip(self.parts, ends, strict=True)
            if start < end and stop > end - len(part)
        ]
        return {name: np.concatenate([arrays[name] for arrays in found]) for name in found[0]}


def write_set(name: str, folder: Path, split: Split, pieces: tuple[int, int], *, overwrite: bool = False) -> None:
    """Write `split` as data set `name` under `folder`, in `pieces` = (training, test) files of nearly equal size.

    A complete set that another process has put there meanwhile stays, unless `overwrite`.
    Raises OptionsError for numbers of pieces that do not fit the samples, DataError where `folder` cannot be written.
    """
    for part, samples, count in zip(Split._fields, split, pieces, strict=True):
        if not 1 <= count <= len(samples):
            raise OptionsError(f"--{part}-pieces must be from 1 to the {len(samples)} samples there are, not {count}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as scratch:
            for part, samples, count in zip(Split._fields, split, pieces, strict=True):
                write_part(name, part, Path(scratch), samples, count)
            if overwrite or prepared(name, folder) is None:
                publish(name, Path(scratch), folder)
    except (OSError, RuntimeError) as error:  # HDF5 reports a full disk as either
        reason = " ".join(str(error).split())
        raise DataError(f"{folder}: cannot write '{name}' ({reason}): make room or name another --dest") from None


def write_part(name: str, part: str, scratch: Path, samples: Samples, count: int) -> None:
    """Write `count` pieces of `samples` into `scratch`, and beside them their list as it is to be found later."""
    bounds = [len(samples) * i // count for i in range(count + 1)]
    names = [f"{part}_{i:03d}.h5" for i in range(count)]
    for piece, (start, stop) in zip(names, itertools.pairwise(bounds), strict=True):
        write_piece(scratch / piece, samples.arrays(start, stop))
    listed = scratch / f"{part}_{name}.list"
    listed.write_text("".join(f"{name}/{piece}\n" for piece in names), encoding="utf-8")
    flush(listed)


def write_piece(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """One HDF5 file with a plain data set an array."""
    with h5py.File(path, "w", locking=False) as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array)
    flush(path)


def flush(path: Path) -> None:
    """Have the system put a written file on its disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def publish(name: str, scratch: Path, folder: Path) -> None:
    """Move everything in `scratch` to where it belongs, in place of what is there."""
    lists, target = list_paths(name, folder), folder / name
    for path in lists:
        path.unlink(missing_ok=True)
    target.mkdir(exist_ok=True)
    made = {path.name for path in scratch.glob("*.h5")}
    for piece in made:
        os.replace(scratch / piece, target / piece)
    for old in target.iterdir():
        if PIECE.fullmatch(old.name) and old.name not in made:
            old.unlink(missing_ok=True)
    for path in lists:
        os.replace(scratch / path.name, path)
