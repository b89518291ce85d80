"""What a run is remembered by: its circumstances at the start, its outcome at the end."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from nnlo.data.lists import FileList
from nnlo.errors import NnloError, Preempted
from nnlo.version import __version__

History = dict[str, Any]
PREEMPTED = "preempted"


def begin_history(resumed: Mapping[str, Any] | None = None, **circumstances: Any) -> History:
    """A history without epochs, or with those of the run that is `resumed`; `circumstances` are those of this job."""
    return {
        "nnlo": __version__,
        "versions": versions(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        **circumstances,
        "epochs": [],
        "validations": [],
        "lost": [],
        "restored": [],
        **(resumed or {}),
    }


def versions() -> dict[str, str]:
    """Of Python, the packages that figures depend on, and the MPI library where one is in use."""
    found = {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}
    mpi = sys.modules.get("mpi4py.MPI")
    library = {"mpi": mpi.Get_library_version().splitlines()[0].strip(" \x00")} if mpi else {}
    return {**found, "h5py": h5py.__version__, **library}


def named(files: FileList) -> str | list[str] | None:
    """A file list as the history keeps it: where it is, or what it names."""
    if files is None or isinstance(files, (str, Path)):
        return None if files is None else str(files)
    return [str(file) for file in files]


def outcome(failure: NnloError | None, stopped: bool) -> str:
    if isinstance(failure, Preempted):
        return PREEMPTED
    if failure is not None:
        return f"failed: {failure}"
    return "stopped" if stopped else "done"


def peak_memory() -> int:
    """The most resident memory that this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
