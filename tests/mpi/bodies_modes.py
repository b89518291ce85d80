"""Bodies for test_modes.py: every row of the table of modes, over real MPI."""

from __future__ import annotations

from typing import Any

import torch
from mpi4py import MPI
from torch import nn

from nnlo.comm.virtual import VirtualWorld
from tests.conformance.table import TABLE, Row
from tests.jobs import Rows, Run, labelled, same_bits, train

X, Y = labelled(90)
EPOCHS = 2


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 4))


def trained(row: Row, comm: Any) -> Run | None:
    """On 18 batches of 5 and a network with statistics."""
    algo = row.algo("categorical_crossentropy", row.digits)
    return train(comm, Rows(X, Y, 5), algo, network, epochs=EPOCHS, seed=3, val=Rows(X, Y, 90))


def body_every_mode_trains(comm: MPI.Intracomm) -> None:
    for row in [row for row in TABLE if row.workers < comm.size]:
        run = trained(row, comm)
        assert (run is None) == (comm.rank > 0)
        if run is not None:
            assert run.history["outcome"] == "done", row.id
            assert [entry["samples"] for entry in run.history["epochs"]] == [90, 180], row.id
            assert all(torch.isfinite(value).all() for value in run.state.values()), row.id
            assert run.last["updates"] > 0 and not any(entry["refused"] for entry in run.history["epochs"]), row.id
            assert not same_bits(run.state, network().state_dict()), row.id


def body_synchronous_modes_are_what_the_virtual_clock_says(comm: MPI.Intracomm) -> None:
    """With two workers, whose sums come out the same in any order; not where it matters who comes first."""
    three = comm.Split(0 if comm.rank < 3 else MPI.UNDEFINED)
    if three == MPI.COMM_NULL:
        return
    for row in TABLE:
        algorithm = row.algo("mse", row.digits).algorithm
        if not algorithm.synchronous or "backup_workers" in row.options:
            continue
        real = trained(row, three)
        if real is not None:
            virtual = trained(row, VirtualWorld(three.size))
            assert virtual is not None and same_bits(real.state, virtual.state), row.id
            assert real.losses == virtual.losses and real.last["val_loss"] == virtual.last["val_loss"], row.id
    three.Free()
