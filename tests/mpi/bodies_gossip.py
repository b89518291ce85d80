"""Bodies for test_gossip.py: nodes of a graph over real MPI, as on the virtual clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpi4py import MPI
from torch import nn

from nnlo import Algo
from nnlo.comm.virtual import VirtualWorld
from tests.jobs import Rows, Run, labelled, same_bits, train

X, Y = labelled(112)
MODES: tuple[dict[str, Any], ...] = (
    {"mode": "dsgd", "graph": "star", "dsgd_order": "combine-then-adapt"},
    {"mode": "dsgd", "graph": "one-peer-exponential"},
    {"mode": "dsgt", "graph": "cycle"},
    {"mode": "dinno", "graph": "cycle", "rho": 0.1},
    {"mode": "choco", "graph": "cycle", "compress": "sign", "choco_gamma": 0.4},
)


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2), nn.Linear(12, 4))


def plain() -> nn.Module:
    return nn.Linear(8, 4)


def trained(comm: Any, options: dict[str, Any], make: Callable[[], nn.Module] = network, **more: Any) -> Run | None:
    algo = Algo("sgd", lr=0.1, **options)
    return train(comm, Rows(X, Y, 5), algo, make, epochs=3, seed=3, val=Rows(X, Y, 112), **more)


def equals_virtual(comm: MPI.Intracomm, transport: str) -> None:
    """To the last bit: the mean of the nodes, and the figures of each of them."""
    for options in MODES:
        real = trained(comm, options, transport=transport)
        if real is not None:
            virtual = trained(VirtualWorld(comm.size), options)
            assert virtual is not None and same_bits(real.state, virtual.state), options
            for one, other in zip(real.history["epochs"], virtual.history["epochs"], strict=True):
                assert (one["nodes"], one["consensus"]) == (other["nodes"], other["consensus"]), options


def body_by_shared_memory(comm: MPI.Intracomm) -> None:
    equals_virtual(comm, "auto")


def body_by_neighbourhood_collectives(comm: MPI.Intracomm) -> None:
    equals_virtual(comm, "mpi")


def body_parts_that_differ(comm: MPI.Intracomm) -> None:
    """Nodes with whole classes each, one of which has more samples than the others."""
    for split in ("label", "dirichlet:alpha=0.3"):
        real = trained(comm, MODES[2], plain, data_split=split)
        if real is not None:
            virtual = trained(VirtualWorld(comm.size), MODES[2], plain, data_split=split)
            assert virtual is not None and same_bits(real.state, virtual.state)
            assert real.last["nodes"] == virtual.last["nodes"]
