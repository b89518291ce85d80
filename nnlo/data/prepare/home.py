"""Where prepared data sets live, and which ones are there."""

from __future__ import annotations

import os
from pathlib import Path

from nnlo.data.lists import names_in
from nnlo.errors import DataError


def data_home() -> Path:
    """`$NNLO_DATA`, or else `nnlo` in the user's cache folder (`$XDG_CACHE_HOME`, `~/.cache`); it may not exist yet."""
    try:
        if chosen := os.environ.get("NNLO_DATA"):
            return Path(chosen).expanduser().absolute()
        cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return (Path(cache).expanduser() / "nnlo").absolute()
    except RuntimeError:
        raise DataError("no home folder to keep data in: set NNLO_DATA to a folder") from None


def list_paths(name: str, folder: Path) -> tuple[Path, Path]:
    """Where the training and the test list of data set `name` are under `folder`."""
    return folder / f"train_{name}.list", folder / f"test_{name}.list"


def read_list(path: Path) -> list[Path]:
    """The pieces that a list of ours names, relative to its folder; none where it is no list."""
    try:
        return [path.parent / name for name in names_in(path)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        return []


def prepared(name: str, folder: Path | None = None) -> tuple[Path, Path] | None:
    """The training and test list of data set `name`, or None unless both and all of their pieces exist.

    `folder` defaults to `data_home()`.
    """
    lists = list_paths(name, data_home() if folder is None else folder)
    return lists if all(complete(path) for path in lists) else None


def complete(path: Path) -> bool:
    pieces = read_list(path) if path.is_file() else []
    return bool(pieces) and all(piece.is_file() for piece in pieces)
