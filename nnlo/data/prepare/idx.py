"""Reading IDX, the format of the MNIST files: a magic number, the dimensions, then the bytes."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnlo.errors import DataError

UNSIGNED_BYTES = 0x08


def unpacked(path: Path) -> bytes:
    """The content of a file, decompressed where its name ends in .gz. Raises DataError."""
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except gzip.BadGzipFile:
        raise DataError(f"{path}: not a gzip file: download it again") from None
    except (EOFError, zlib.error):
        raise DataError(f"{path}: truncated or damaged: download it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def parse_idx(content: bytes, path: Path) -> NDArray[np.uint8]:
    """The array in `content`, in its own shape. Raises DataError, with `path` as the culprit."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != UNSIGNED_BYTES:
        raise DataError(f"{path}: not an IDX file of bytes (it begins with {content[:4].hex() or 'nothing'})")
    start = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], dtype=">u4")) if len(content) >= start else ()
    wanted = start + math.prod(shape)
    if not shape or len(content) != wanted:
        raise DataError(f"{path}: {len(content)} bytes where its header tells of {wanted}: download it again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
