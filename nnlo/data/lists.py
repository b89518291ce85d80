"""File lists: one path a line, relative to the list's folder or to the current one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnlo.errors import DataError


def read_list(path: str | Path, flag: str) -> list[str]:
    """The files named in a list; blank lines and lines that begin with # are passed over.

    Raises DataError, naming `flag`, for a list that is missing or names nothing.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise DataError(f"{flag} {path}: {reason}: give a file with one path a line") from None
    names = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise DataError(f"{flag} {path}: the list is empty: write one path a line")
    return [resolved(name, Path(path).parent) for name in names]


def resolved(name: str, folder: Path) -> str:
    """`name` below the list's folder if it is there, else as it stands."""
    below = folder / name
    return str(below) if below.exists() else name


def file_list(source: str | Path | Sequence[str] | None, flag: str) -> list[str]:
    """A list of files as it is, or the content of the list that `source` names."""
    if source is None:
        return []
    return read_list(source, flag) if isinstance(source, (str, Path)) else list(source)
