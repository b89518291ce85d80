"""Bodies for test_topology.py: workers of two ranks each, over real MPI and on the virtual clock."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from mpi4py import MPI

from nnlo import Algo
from nnlo.algos import MODES
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import OptionsError
from tests.jobs import Rows, Run, labelled, same_bits, train
from tests.mpi.bodies_training import check_equal, network

X, Y = labelled(105)
VX, VY = labelled(30, seed=1)


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
    equals_virtual(comm, 1, 2, "downpour", synchronous=True, sync_every=2)


def body_allreduce_of_teams(comm: MPI.Intracomm) -> None:
    equals_virtual(comm, 1, 2, "allreduce")
    equals_virtual(comm, 1, 2, "local", sync_every=2)


def body_gloo_adds_up_as_mpi_does(comm: MPI.Intracomm) -> None:
    """Two numbers have one sum; twice in a row, since a group is made for each training."""
    runs = [trained(comm, 1, 2, "downpour", synchronous=True, backend=b) for b in ("mpi", "gloo", "gloo")]
    if runs[0] is not None:
        for run in runs[1:]:
            assert run is not None and run.history["arguments"]["team_backend"] == "gloo"
            assert same_bits(run.state, runs[0].state)


def body_nccl_without_gpus_is_refused_on_every_rank(comm: MPI.Intracomm) -> None:
    if torch.cuda.device_count():
        pytest.skip("there are GPUs here")
    with pytest.raises(OptionsError, match=r"^--team-backend nccl.*: take "):
        trained(comm, 1, 2, "downpour", backend="nccl")


def body_torch_distributed_of_the_users_own_is_left_alone(comm: MPI.Intracomm) -> None:
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
