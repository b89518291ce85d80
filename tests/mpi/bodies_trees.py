"""Bodies for test_topology.py: heads of masters, of seven ranks, over real MPI and on the virtual clock."""

from __future__ import annotations

from mpi4py import MPI
from torch import nn

from nnlo import Algo
from nnlo.topology import Topology
from tests.jobs import Rows, labelled, train
from tests.mpi.bodies_teams import algo, equals_virtual
from tests.mpi.bodies_training import Uneven

X, Y = labelled(105)
TREE, TREE_OF_TEAMS = (3, 1), (3, 2)
"""Masters and processes of a worker."""


def body_synchronous_downpour(comm: MPI.Intracomm) -> None:
    for masters, processes in (TREE, TREE_OF_TEAMS):
        equals_virtual(comm, masters, processes, "downpour", synchronous=True, sync_every=2)


def body_synchronous_easgd_and_votes(comm: MPI.Intracomm) -> None:
    equals_virtual(comm, *TREE, "easgd", synchronous=True, elastic_lr=0.05)
    equals_virtual(comm, *TREE, "sign")


def body_asynchronous_training_takes_every_sample(comm: MPI.Intracomm) -> None:
    for masters, processes in (TREE, TREE_OF_TEAMS):
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
    masters, processes = TREE_OF_TEAMS
    for options in ({}, {"synchronous": True}):
        run = train(
            comm, Uneven(4), Algo("sgd", lr=0.01, **options), lambda: nn.Linear(8, 4), epochs=2,
            num_masters=masters, num_processes=processes,
        )  # fmt: skip
        if run is not None:
            assert run.history["outcome"] == "done" and run.last["samples"] > 0
