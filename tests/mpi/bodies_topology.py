"""Bodies for test_topology.py: teams of ranks and heads of masters over real MPI and on the virtual clock."""

from __future__ import annotations

from typing import Any

import pytest
from mpi4py import MPI
from torch import nn

from nnlo import Algo
from nnlo.algos import MODES
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import OptionsError
from nnlo.topology import Topology
from tests.jobs import Rows, Run, labelled, same_bits, train
from tests.mpi.bodies_training import Uneven, check_equal, network

X, Y = labelled(105)
VX, VY = labelled(30, seed=1)
SHAPES = {5: [(1, 2), (3, 1)], 7: [(1, 2), (3, 1), (3, 2)]}
"""Masters and processes of a worker, by the number of ranks."""
TEAMS = {
    size: [(masters, processes) for masters, processes in shapes if processes > 1] for size, shapes in SHAPES.items()
}


def algo(mode: str, **options: Any) -> Algo:
    settings = {"lr": 0.05} if MODES[mode].needs_optimizer else {}
    return Algo("momentum" if settings else None, mode=mode, **settings, **options)


def trained(where: Any, masters: int, processes: int, mode: str, *, backend: str = "mpi", **options: Any) -> Run | None:
    return train(
        where, Rows(X, Y, 10), algo(mode, **options), network, epochs=2, seed=4, val=Rows(VX, VY, 30),
        num_masters=masters, num_processes=processes, team_backend=backend, worker_accuracy=True,
    )  # fmt: skip


def equals_virtual(comm: MPI.Intracomm, masters: int, processes: int, mode: str, **options: Any) -> None:
    """What is left is the same, bit for bit: dropout, BatchNorm and a ragged last batch included."""
    run = trained(comm, masters, processes, mode, **options)
    assert (run is None) == (comm.rank > 0)
    if run is not None:
        virtual = trained(VirtualWorld(comm.size), masters, processes, mode, **options)
        assert virtual is not None
        check_equal(run, virtual)
        assert run.history["workers"] == virtual.history["workers"]


def body_synchronous_downpour(comm: MPI.Intracomm) -> None:
    for masters, processes in SHAPES[comm.size]:
        equals_virtual(comm, masters, processes, "downpour", synchronous=True, sync_every=2)


def body_synchronous_easgd_and_votes(comm: MPI.Intracomm) -> None:
    masters, processes = SHAPES[comm.size][-1]
    equals_virtual(comm, masters, processes, "easgd", synchronous=True, elastic_lr=0.05)
    equals_virtual(comm, masters, processes, "sign")


def body_allreduce_of_teams(comm: MPI.Intracomm) -> None:
    equals_virtual(comm, 1, 2, "allreduce")
    equals_virtual(comm, 1, 2, "local", sync_every=2)


def body_asynchronous_training_takes_every_sample(comm: MPI.Intracomm) -> None:
    for masters, processes in SHAPES[comm.size]:
        leads = {str(lead) for lead in Topology.of(comm.size, masters, processes).leads}
        for mode in ("downpour", "gem", "easgd"):
            run = train(
                comm, Rows(X, Y, 5), algo(mode), lambda: nn.Linear(8, 4), epochs=4, num_masters=masters,
                num_processes=processes,
            )  # fmt: skip
            if run is not None:
                epochs = run.history["epochs"]
                ranks = [(rank, one) for entry in epochs for rank, one in entry["ranks"].items()]
                assert run.last["samples"] == 4 * len(Y) == sum(one["samples"] for _, one in ranks)
                assert {rank for rank, _ in ranks} <= leads
                assert sum(sum(entry["staleness"]["histogram"]) for entry in epochs) == 4 * 21


def body_uneven_generators_never_hang(comm: MPI.Intracomm) -> None:
    masters, processes = SHAPES[comm.size][-1]
    for options in ({}, {"synchronous": True}):
        run = train(
            comm, Uneven(4), Algo("sgd", lr=0.01, **options), lambda: nn.Linear(8, 4), epochs=2,
            num_masters=masters, num_processes=processes,
        )  # fmt: skip
        if run is not None:
            assert run.history["outcome"] == "done" and run.last["samples"] > 0


def body_gloo_adds_up_as_mpi_does(comm: MPI.Intracomm) -> None:
    """Two numbers have one sum; twice in a row, since a group is made for each training."""
    for masters, processes in TEAMS[comm.size]:
        runs = [trained(comm, masters, processes, "downpour", synchronous=True, backend=b) for b in ("mpi", "gloo")]
        first, second = (run and run.state for run in runs)
        assert first is None or second is None or same_bits(first, second)
        if runs[1] is not None:
            assert runs[1].history["arguments"]["team_backend"] == "gloo"


def body_nccl_without_gpus_is_refused_on_every_rank(comm: MPI.Intracomm) -> None:
    with pytest.raises(OptionsError, match=r"^--team-backend nccl.*: take "):
        trained(comm, 1, 2, "downpour", backend="nccl")


def body_torch_distributed_of_the_users_own_is_left_alone(comm: MPI.Intracomm) -> None:
    import torch.distributed as dist

    store = dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        with pytest.raises(OptionsError, match=r"this program uses torch\.distributed itself"):
            trained(comm, 1, 2, "downpour", backend="gloo")
        assert dist.is_initialized()
    finally:
        dist.destroy_process_group()


def body_ranks_that_do_not_divide_are_refused_on_every_rank(comm: MPI.Intracomm) -> None:
    with pytest.raises(OptionsError, match="do not divide into"):
        trained(comm, 4, 2, "downpour")
