"""File lists: one path a line, relative to the list's folder or to the current one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from nnlo.errors import DataError

#: A file that lists paths, or the paths.
FileList: TypeAlias = "str | Path | Sequence[str | Path] | None"


def names_in(path: str | Path) -> list[str]:
    """What a list names, as it stands there; blank lines and lines that begin with # are passed over.

    Raises OSError, and ValueError for what is no text.
    """
    text = Path(path).read_text(encoding="utf-8-sig")
    if "\0" in text:
        raise ValueError("null bytes")
    lines = [line.strip() for line in text.split("\n")]
    return [line for line in lines if line and not line.startswith("#")]


def read_list(path: str | Path, flag: str) -> list[str]:
    """The files named in a list. Raises DataError, naming `flag`, for one that is missing or names nothing."""
    try:
        names = names_in(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise DataError(f"{flag} {path}: {reason}: give a file with one path a line") from None
    if not names:
        raise DataError(f"{flag} {path}: the list is empty: write one path a line")
    return [resolved(name, Path(path).parent) for name in names]


def resolved(name: str, folder: Path) -> str:
    """`name` below the list's folder if it is there, else as it stands."""
    below = folder / name
    return str(below) if below.exists() else name


def file_list(source: FileList, flag: str) -> list[str]:
    """A list of files as it is, or the content of the list that `source` names."""
    if source is None:
        return []
    return read_list(source, flag) if isinstance(source, (str, Path)) else [os.fspath(name) for name in source]
