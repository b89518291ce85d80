"""An exception that a rank's program does not catch ends the whole job, since the other ranks would wait for ever.

Installed when nnlo is imported; it does nothing in a process without MPI, or with one rank alone.
"""

from __future__ import annotations

import sys
from types import TracebackType

from nnlo.errors import NnloError


def install() -> None:
    """Put the hook after the one that is there."""
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        before(kind, error, trace)
        if has_company() and not (isinstance(error, NnloError) and error.agreed):
            from nnlo.comm.mpi import abort

            abort()

    sys.excepthook = hook


def has_company() -> bool:
    """Whether MPI runs here with more ranks than this one."""
    mpi = sys.modules.get("mpi4py.MPI")
    return mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized() and mpi.COMM_WORLD.size > 1
