"""HDF5 files: opening them, the filters that they need, and what is wrong with them, in few words."""

from __future__ import annotations

import importlib
import os
from typing import Any

import h5py

from nnlo.errors import DataError

#: Names listed for a dataset that is not there.
LISTED_NAMES = 20
#: What each filter of a dataset is known by: its number, flags, settings and name.
Filter = tuple[int, int, tuple[int, ...], bytes]


def check_filters(file: str, dataset: h5py.Dataset) -> None:
    """See that each filter of a dataset is here; hdf5plugin is loaded once one is missing. Raises DataError."""
    made = dataset.id.get_create_plist()
    filters: list[Filter] = [made.get_filter(i) for i in range(made.get_nfilters())]
    for code, _, _, name in filters:
        if h5py.h5z.filter_avail(code):
            continue
        loaded = plugins_loaded()
        if not h5py.h5z.filter_avail(code):
            what = f"'{dataset.name.lstrip('/')}' needs the HDF5 filter {code} ({name.decode(errors='replace')})"
            fix = "name the folder of its plugin in HDF5_PLUGIN_PATH" if loaded else "pip install 'nnlo[hdf5plugin]'"
            raise DataError(f"{file}: {what}: {fix}")


def plugins_loaded() -> bool:
    """Whether hdf5plugin is here; importing it, which takes a moment, tells HDF5 of its filters."""
    try:
        importlib.import_module("hdf5plugin")
    except ImportError:
        return False
    return True


def open_file(file: str) -> h5py.File:
    """Open read-only and without locks, which network disks may lack. Raises DataError."""
    if not os.path.isfile(file):
        raise DataError(f"{file}: {'is a folder' if os.path.isdir(file) else 'no such file'}")
    try:
        return h5py.File(file, "r", locking=False)
    except OSError as error:
        raise DataError(f"{file}: cannot be read: {fault_of(error)}") from None


def fault_of(error: OSError) -> str:
    """What h5py complains of, in few words."""
    message = str(error).splitlines()[0]
    if "truncated" in message or "eof =" in message:
        return "truncated"
    if "signature" in message:
        return "not an HDF5 file"
    return os.strerror(error.errno) if error.errno else message


def names_in(handle: h5py.File) -> str:
    """The datasets and groups of a file, in words."""
    names: list[Any] = []
    handle.visit(names.append)
    more = f" and {len(names) - LISTED_NAMES} more" if len(names) > LISTED_NAMES else ""
    return (", ".join(sorted(names)[:LISTED_NAMES]) or "none") + more
