"""MNIST: 60,000 and 10,000 handwritten digits of 28x28, from its four IDX files."""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnlo.data.prepare.fetching import import_pooch
from nnlo.data.prepare.idx import parse_idx, unpacked
from nnlo.data.prepare.pieces import Images, Split
from nnlo.errors import DataError

# Of the decompressed content: the mirrors compress it each in their own way.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def load(source: Path | None = None) -> Split:
    """The training and test samples (28, 28, 1), from the folder `source` or, without one, fetched.

    Raises DataError for files that are missing, damaged or not MNIST's, OptionsError where fetching needs pooch.
    """
    if source is not None:
        return read_folder(source.expanduser())
    with tempfile.TemporaryDirectory(prefix="nnlo-mnist-") as scratch:
        fetch(Path(scratch))
        return read_folder(Path(scratch))


def read_folder(folder: Path) -> Split:
    paths = {name: located(folder, name) for name in SHA256}
    if missing := [f"{name}.gz" for name, path in paths.items() if path is None]:
        raise DataError(f"--source {folder}: no {', '.join(missing)} there: name the folder of MNIST's four files")
    arrays = [read_checked(path, name) for name, path in paths.items() if path is not None]
    pairs = (arrays[0], arrays[1]), (arrays[2], arrays[3])
    return Split(*(Images(images[..., np.newaxis], labels, classes=10) for images, labels in pairs))


def located(folder: Path, name: str) -> Path | None:
    """The file `name` in `folder`, as it comes or decompressed."""
    return next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)


def read_checked(path: Path, name: str) -> NDArray[Any]:
    """The array in `path`, whose content must be that of MNIST's file `name`. Raises DataError."""
    content = unpacked(path)
    array = parse_idx(content, path)
    if (digest := hashlib.sha256(content).hexdigest()) != SHA256[name]:
        raise DataError(f"{path}: not MNIST's (sha256 of the content is {digest}): other data sets use the same names")
    return array


def fetch(folder: Path) -> None:
    """Download the four files into `folder`, each from the first mirror that delivers it whole.

    Raises OptionsError without pooch, DataError when every mirror fails.
    """
    pooch = import_pooch("MNIST", "its files")
    for name in SHA256:
        fetch_one(pooch, folder, name)


def fetch_one(pooch: Any, folder: Path, name: str) -> None:
    file, failures = f"{name}.gz", []
    for mirror in MIRRORS:
        try:
            pooch.retrieve(mirror + file, None, file, folder, progressbar=sys.stderr.isatty())
            read_checked(folder / file, name)
            return
        except (OSError, ValueError, DataError) as error:
            (folder / file).unlink(missing_ok=True)
            failures.append(f"{mirror} {type(error).__name__}")
    raise DataError(f"cannot fetch {file} ({'; '.join(failures)}): download it yourself and use --source")
