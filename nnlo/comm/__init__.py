"""How ranks exchange and wait: one interface, over MPI and in one process on a virtual clock."""

from __future__ import annotations

from typing import Any


def world_comm() -> Any:
    """MPI's communicator of all ranks. Raises OptionsError where no MPI library can be loaded."""
    from nnlo.comm.mpi import MPI

    return MPI.COMM_WORLD
