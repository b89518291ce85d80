"""CIFAR-10: 50,000 and 10,000 colour pictures of 32x32, from its binary version.

A file of it is 10,000 records: a byte with the class, then 3,072 bytes with the rows of the red, the green and the
blue plane.
"""

from __future__ import annotations

import gzip
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from nnlo.data.prepare.fetching import import_pooch
from nnlo.data.prepare.pieces import Images, Joined, Split
from nnlo.errors import DataError

ARCHIVE, FOLDER = "cifar-10-binary.tar.gz", "cifar-10-batches-bin"
TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = "test_batch.bin"
FILES = (*TRAIN, TEST)
RECORDS, CLASSES, SIDE = 10_000, 10, 32
RECORD_BYTES = 1 + 3 * SIDE * SIDE
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"


def load(source: Path | None = None) -> Split:
    """The training and test samples (32, 32, 3): from `source`, the archive or a folder with it or with its files, or,
    without one, fetched.

    Raises DataError for files that are missing, damaged or not CIFAR-10's, OptionsError where fetching needs pooch.
    """
    if source is not None:
        return read(source.expanduser())
    with tempfile.TemporaryDirectory(prefix="nnlo-cifar10-") as scratch:
        return read(fetch(Path(scratch)))


def read(source: Path) -> Split:
    """The samples in an archive, or in a folder."""
    archive = source if source.is_file() else source / ARCHIVE
    folder = next((place for place in (source / FOLDER, source) if (place / TEST).is_file()), None)
    if folder is not None:
        found = read_folder(folder)
    elif archive.is_file():
        found = dict(read_archive(archive))
    else:
        raise DataError(f"--source {source}: no {ARCHIVE} there and no {FOLDER}: name its folder (the binary version)")
    if missing := [name for name in FILES if name not in found]:
        raise DataError(f"--source {source}: no {', '.join(missing)} there: download {ARCHIVE} again")
    return Split(Joined(tuple(found[name] for name in TRAIN)), found[TEST])


def read_folder(folder: Path) -> dict[str, Images]:
    """The files that are there, by name. Raises DataError."""
    found = {}
    for path in (folder / name for name in FILES if (folder / name).is_file()):
        try:
            with open(path, "rb") as file:
                found[path.name] = read_records(file, path.stat().st_size, str(path))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    return found


def read_archive(path: Path) -> Iterator[tuple[str, Images]]:
    """The files of the archive by name, each read where it lies: nothing is unpacked. Raises DataError."""
    wanted = {f"{FOLDER}/{name}": name for name in FILES}
    try:
        with gzip.open(path) as unzipped:
            with tarfile.open(fileobj=unzipped, mode="r:") as archive:
                for member in archive:
                    file = archive.extractfile(member) if member.isreg() and member.name in wanted else None
                    if file is not None:
                        yield wanted[member.name], read_records(file, member.size, f"{path}: {member.name}")
            while unzipped.read(1 << 20):  # to the checksum at its end
                pass
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a .tar.gz, or damaged ({error}): download it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}): download it again") from None


def read_records(file: IO[bytes], size: int, what: str) -> Images:
    """One file of `size` bytes. Raises DataError, with `what` as the culprit, for what is not CIFAR-10's."""
    wanted = RECORDS * RECORD_BYTES
    if size != wanted:
        raise DataError(f"{what}: {size} bytes where CIFAR-10 has {wanted}: download {ARCHIVE} again")
    content = file.read(wanted)
    records = np.frombuffer(content, np.uint8).reshape(RECORDS, RECORD_BYTES)
    labels, planes = records[:, 0], records[:, 1:].reshape(RECORDS, 3, SIDE, SIDE)
    if labels.max() >= CLASSES:
        raise DataError(f"{what}: class {labels.max()} where CIFAR-10 has 0 to {CLASSES - 1}: download {ARCHIVE} again")
    return Images(planes.transpose(0, 2, 3, 1), labels, CLASSES)


def fetch(folder: Path) -> Path:
    """Download the archive into `folder`. Raises OptionsError without pooch, DataError where it does not come whole."""
    pooch = import_pooch("CIFAR-10", "its archive")
    try:
        return Path(pooch.retrieve(URL, f"md5:{MD5}", ARCHIVE, folder, progressbar=sys.stderr.isatty()))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot fetch {URL} ({type(error).__name__}): download it yourself and use --source") from None
