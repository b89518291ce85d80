"""The options of what the ranks of a job are: masters, workers, and the processes of a worker."""

from __future__ import annotations

from dataclasses import dataclass

from nnlo.options import Options, option

TEAM_BACKENDS = ("mpi", "gloo", "nccl")


@dataclass(frozen=True, kw_only=True)
class RanksArguments(Options):
    """Ranks"""

    n_masters: int = option(
        1, help="masters: above 1, rank 0 is the head of the others, which share the workers", metavar="K", at_least=1
    )
    n_processes: int = option(
        1, help="ranks of each worker, which compute a part of every batch each", metavar="P", at_least=1
    )
    team_backend: str = option(
        "mpi", help="what a worker's ranks add up their gradients with", choices=lambda: TEAM_BACKENDS
    )
