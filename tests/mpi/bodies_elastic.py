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
    """What is left is the same, bit for bit: dropout, BatchNorm and a ragged last batch included."""

    def both(where: Any) -> Run | None:
        return train(where, Rows(X, Y, 10), Algo(None, **options), network, epochs=2, seed=4, val=Rows(VX, VY, 30))

    run = both(comm)
    if run is not None:
        virtual = both(VirtualWorld(comm.size))
        assert virtual is not None
        check_equal(run, virtual)


def with_one_worker(comm: MPI.Intracomm, **options: Any) -> None:
    pair = comm.Split(0 if comm.rank < 2 else MPI.UNDEFINED)
    if pair != MPI.COMM_NULL:
        equals_virtual(pair, **options)
        pair.Free()


def body_synchronous_easgd(comm: MPI.Intracomm) -> None:
    equals_virtual(comm, mode="easgd", synchronous=True, sync_every=2, elastic_lr=0.05)


def body_synchronous_eamsgd_in_the_papers_order(comm: MPI.Intracomm) -> None:
    equals_virtual(
        comm, mode="easgd", synchronous=True, elastic_lr=0.05, elastic_momentum=0.9, elastic_order="before"
    )  # fmt: skip


def body_synchronous_easgd_compressed(comm: MPI.Intracomm) -> None:
    equals_virtual(comm, mode="easgd", synchronous=True, compress="bf16", worker_optimizer="adam")


def body_asynchronous_easgd_with_one_worker(comm: MPI.Intracomm) -> None:
    with_one_worker(comm, mode="easgd", elastic_force=0.5)


def body_asynchronous_easgd_compressed_with_one_worker(comm: MPI.Intracomm) -> None:
    with_one_worker(comm, mode="easgd", elastic_force=0.5, compress="fp16", sync_every=2)


def body_gem_with_one_worker(comm: MPI.Intracomm) -> None:
    with_one_worker(comm, mode="gem", sync_every=2, gem_variant="code")


def body_asynchronous_modes_count_every_sample(comm: MPI.Intracomm) -> None:
    for mode in ("easgd", "gem"):
        run = train(comm, Rows(X, Y, 10), Algo(None, mode=mode), network, epochs=3)
        if run is not None:
            assert run.last["samples"] == 315
            assert run.losses[-1] < run.losses[0]
