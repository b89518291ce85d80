"""Trainings one after another on the same ranks: what one rank raises in one of them ends that one alone."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from mpi4py import MPI

from nnlo import Algo, Callback, ModelBuilder, MPIManager
from nnlo.comm import watch
from nnlo.comm.contained import ContainedWorld
from nnlo.errors import DataError, TrialFailed
from tests.jobs import Built, Rows, labelled

MODES: list[dict[str, Any]] = [{"mode": "downpour"}, {"mode": "downpour", "synchronous": True}, {"mode": "allreduce"}]


class Raises(torch.nn.Linear):
    """A layer whose forward pass number `step` raises on one rank while it is trained; never where `step` is None."""

    def __init__(self, step: int | None) -> None:
        super().__init__(8, 4)
        self.step, self.steps = step, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += self.training
        if self.step is not None and self.training and self.steps > self.step:
            raise ArithmeticError("on purpose")
        return super().forward(x)


class Unreadable(Rows):
    """Samples of which a batch cannot be read once training has begun, on one rank."""

    def __init__(self, fails: bool) -> None:
        super().__init__(*labelled(400), 5)
        self.fails = fails

    def load_data(self, file: str) -> Any:
        if self.fails and threading.current_thread() is not threading.main_thread():
            raise LookupError("no such sample")
        return super().load_data(file)


class Hook(Callback):
    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        raise KeyError("no such figure")


def trained(comm: MPI.Comm, world: ContainedWorld, way: dict[str, Any], step: int | None = None, **given: Any) -> Any:
    """What a training with a step of 0.1 ends with, on rank 0; the model is the same everywhere."""
    torch.manual_seed(0)
    algo = Algo("sgd", lr=0.1, **way)
    data = given.pop("data", None) or Rows(*labelled(400), 5)
    manager = MPIManager(comm, data, algo, Built(lambda: Raises(step)), 3, ["a"], None, output=None, **given)
    world.transport = manager.world.transport
    manager.world = world
    manager.train()
    return manager.model and {name: value.clone() for name, value in manager.model.state_dict().items()}


def all_fail(comm: MPI.Comm, text: str, work: Any) -> None:
    """Each rank raises the same, which names who failed and why."""
    with pytest.raises(TrialFailed) as caught:
        work()
    told = comm.allgather(str(caught.value))
    assert len(set(told)) == 1 and text in told[0], told


def goes_on(comm: MPI.Comm, transport: str) -> None:
    watch.INTERVAL = 0.05
    world, synchronous = ContainedWorld(comm), {"mode": "downpour", "synchronous": True}
    before = trained(comm, world, synchronous, transport=transport)
    last = comm.size - 1
    for way in MODES:
        step = 7 if comm.rank == last else None
        all_fail(
            comm, f"rank {last} failed: ArithmeticError: on purpose",
            lambda step=step, way=way: trained(comm, world, way, step, transport=transport),
        )  # fmt: skip
    several = partial(trained, comm, world, MODES[-1], 3 if comm.rank else None, transport=transport)
    all_fail(comm, "failed: ArithmeticError: on purpose", several)
    hooks = [Hook()] if comm.rank == 0 else []
    master = partial(trained, comm, world, MODES[0], callbacks=hooks, transport=transport)
    all_fail(comm, "rank 0 failed: KeyError", master)
    after = trained(comm, world, synchronous, transport=transport)
    if comm.rank == 0:
        assert all(torch.equal(after[name], before[name]) for name in before)


def body_over_shared_memory(comm: MPI.Comm) -> None:
    goes_on(comm, "shm")


def body_over_messages(comm: MPI.Comm) -> None:
    global MODES
    MODES, before = [way for way in MODES if way["mode"] != "allreduce"], MODES
    try:
        goes_on(comm, "mpi")
    finally:
        MODES = before


def body_what_all_agree_on_is_raised_as_it_is(comm: MPI.Comm) -> None:
    world = ContainedWorld(comm)
    for _ in range(2):
        with pytest.raises(DataError, match="fewer than the"):
            trained(comm, world, MODES[0], data=Rows(np.zeros((1, 8), np.float32), np.zeros(1, np.int64), 5))
    trained(comm, world, MODES[0])


def body_samples_that_cannot_be_read(comm: MPI.Comm) -> None:
    world = ContainedWorld(comm)
    all_fail(comm, "no such sample", lambda: trained(comm, world, MODES[0], data=Unreadable(comm.rank == 1)))
    trained(comm, world, MODES[0])


class Unbuildable(ModelBuilder):
    """One rank raises what is no error of the library, in the midst of what all agree on; the others wait for it."""

    def build_model(self) -> torch.nn.Module:
        if self.comm.rank == 1:
            raise ArithmeticError("no such layer")
        return Raises(None)


def body_a_model_that_one_rank_cannot_build(comm: MPI.Comm) -> None:
    world = ContainedWorld(comm)
    for transport in ("shm", "mpi"):
        data, algo = Rows(*labelled(400), 5), Algo("sgd", lr=0.1)
        manager = MPIManager(comm, data, algo, Unbuildable(comm), 3, ["a"], None, output=None, transport=transport)
        world.transport, manager.world = transport, world
        all_fail(comm, "rank 1 failed: ArithmeticError: no such layer", manager.train)
        trained(comm, world, MODES[0], transport=transport)
