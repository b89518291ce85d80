"""Bodies for test_collective.py: M workers are one process over real MPI, to the last bit on dyadic data."""

from __future__ import annotations

import numpy as np
import torch
from mpi4py import MPI
from torch import nn

from nnlo import Algo
from tests.golden.test_collective_training import PARTS, SAME, allreduce, local
from tests.golden.test_synchronous import integers, linear, one_process
from tests.jobs import Batches, Rows, cut, same_bits, train


def body_m_workers_are_one_process(comm: MPI.Intracomm) -> None:
    """Of a power of two of them; the last round is of one alone."""
    workers, batch = comm.size - 1, 8
    sizes = [batch] * (3 * workers) + [4]
    x, y = integers(sum(sizes))
    x, y = x[: sum(sizes)], y[: sum(sizes)]
    for name, algo in SAME.items():
        run = train(comm, Batches(cut(x, y, sizes)), algo, linear)
        if run is not None:
            reference = one_process(cut(x, y, [workers * batch] * 3 + [4]))
            assert same_bits(run.state, reference.state_dict()), name


def deep() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2))


def body_an_epoch_of_uneven_shares_ends_for_all(comm: MPI.Intracomm) -> None:
    """Fewer batches than workers, and one more than they share evenly."""
    x, y = (array.astype("float32") for array in integers(8 * comm.size))
    for algo in (allreduce(**PARTS), local(sync_every=3, post_local_from=1)):
        for rows in (8, 8 * comm.size):
            run = train(comm, Rows(x[:rows], y[:rows], 8), algo, deep, epochs=3)
            if run is not None:
                assert [entry["samples"] for entry in run.history["epochs"]] == [rows, 2 * rows, 3 * rows]


def body_a_worker_whose_gradient_is_not_finite_is_left_out(comm: MPI.Intracomm) -> None:
    x, y = integers(8 * 2 * (comm.size - 1))
    x[9] = np.nan
    for algo in (allreduce(**PARTS), local(outer_momentum=0.5), Algo(None, mode="local", loss="mse")):
        run = train(comm, Batches(cut(x, y, [8] * (2 * (comm.size - 1)))), algo, linear, epochs=2)
        if run is not None:
            assert all(torch.isfinite(value).all() for value in run.state.values())
            assert sum(entry["refused_samples"] for entry in run.history["epochs"]) == 2 * 8
