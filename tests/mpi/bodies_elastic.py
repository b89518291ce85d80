"""Bodies for test_elastic.py: elastic averaging and gradient energy matching over real MPI and on the virtual clock."""

from __future__ import annotations

from typing import Any

from mpi4py import MPI

from nnlo import Algo
from nnlo.comm.virtual import VirtualWorld
from tests.jobs import Rows, Run, labelled, train
from tests.mpi.bodies_training import check_equal, network

X, Y = labelled(105)
VX, VY = labelled(30, seed=1)


def equals_virtual(comm: MPI.Intracomm, **options: Any) -> None:
    """With one worker what is left is the same, bit for bit: dropout, BatchNorm and a ragged last batch included."""

    def both(where: Any) -> Run | None:
        return train(where, Rows(X, Y, 10), Algo(None, **options), network, epochs=2, seed=4, val=Rows(VX, VY, 30))

    run = both(comm) if comm.size == 2 else None
    if run is not None:
        virtual = both(VirtualWorld(2))
        assert virtual is not None
        check_equal(run, virtual)


def body_asynchronous_easgd_equals_virtual(comm: MPI.Intracomm) -> None:
    equals_virtual(comm, mode="easgd", elastic_force=0.5)


def body_asynchronous_easgd_compressed_equals_virtual(comm: MPI.Intracomm) -> None:
    equals_virtual(comm, mode="easgd", elastic_force=0.5, compress="fp16", sync_every=2)


def body_gem_equals_virtual(comm: MPI.Intracomm) -> None:
    equals_virtual(comm, mode="gem", sync_every=2, gem_variant="code")


def body_workers_that_pull_stop_early(comm: MPI.Intracomm) -> None:
    """Others' updates are still on their way then: nobody is told to stop twice."""
    for options in ({"mode": "gem"}, {"mode": "easgd", "compress": "fp16", "synchronous": True}):
        algo = Algo(None, validate_every=2, **options)
        run = train(comm, Rows(X, Y, 5), algo, network, epochs=50, val=Rows(VX, VY, 30), target_metric="val_acc,>,0.0")
        if run is not None:
            assert run.history["stop_reason"]
