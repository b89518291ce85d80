"""Bodies for test_bodies.py: each ends in another way."""

from __future__ import annotations

import os
import time
import unittest

from mpi4py import MPI


def body_passes(comm: MPI.Comm) -> None:
    assert comm.allreduce(1) == comm.size


def body_raises_on_all(comm: MPI.Comm) -> None:
    raise ValueError(f"on purpose, rank {comm.rank}")


def body_raises_while_the_other_waits(comm: MPI.Comm) -> None:
    if comm.rank == 1:
        raise ValueError("on purpose, alone")
    comm.recv(source=1)


def body_leaves_a_message(comm: MPI.Comm) -> None:
    if comm.rank == 0:
        comm.isend("unread", dest=1)
    assert comm.rank == 0, "on purpose, unread"


def body_hears_nothing_of_it(comm: MPI.Comm) -> None:
    comm.Barrier()
    assert not comm.Iprobe(source=MPI.ANY_SOURCE, tag=MPI.ANY_TAG)


def body_waits_for_ever(comm: MPI.Comm) -> None:
    time.sleep(1000)


def body_ends_its_process(comm: MPI.Comm) -> None:
    if comm.rank == 1:
        os._exit(5)
    comm.recv(source=1)


def body_skips(comm: MPI.Comm) -> None:
    raise unittest.SkipTest(f"{comm.size} ranks are not enough")


def body_passes_after_all(comm: MPI.Comm) -> None:
    assert comm.allreduce(comm.rank) == comm.size * (comm.size - 1) // 2
