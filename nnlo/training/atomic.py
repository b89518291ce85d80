"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nnlo.errors import DataError

#: What files are called that are being written; one that was killed leaves them.
SCRATCH = ".nnlo-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields an empty file beside `path` to be filled; in the end it is on the disk and takes the place of `path`.

    Where the body raises, or leaves the file empty, `path` stays as it was and nothing else is left. The folder is made
    if need be. Raises DataError where the file cannot be written.
    """
    scratch = path.with_name(f"{SCRATCH}{uuid.uuid4().hex}{path.suffix}")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch.touch()
            mode = scratch.stat().st_mode
            yield scratch
            if scratch.stat().st_size:
                scratch.chmod(mode)  # safetensors makes its files for the owner alone, whatever the umask
                flush(scratch)
                os.replace(scratch, path)
    finally:
        discard(scratch)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system says against writing `path` becomes a DataError that names it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot write ({reason}): make room there or name another --output") from error


def flush(path: Path) -> None:
    """Have the system put a file, or what a folder lists, on its disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def discard(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
