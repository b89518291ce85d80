"""How many threads torch may use on a rank."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Sequence

import torch

#: A host's name and the cores that a rank may use there.
Place = tuple[str, Sequence[int]]


def own_place() -> Place:
    return socket.gethostname(), sorted(os.sched_getaffinity(0))


def fair_threads(rank: int, places: Sequence[Place], masters: Collection[int] = (0,)) -> int:
    """One for masters; others share each core that they may use with all others that may, but for masters."""
    if rank in masters:
        return 1
    host, cores = places[rank]
    beside = [set(others) for other, (name, others) in enumerate(places) if name == host and other not in masters]
    return max(1, int(sum(1 / sum(core in others for others in beside) for core in cores) + 1e-9))


def about_binding(rank: int, places: Sequence[Place], masters: Collection[int], cores: int) -> str | None:
    """What the first rank of a host says where its workers are held to fewer of its `cores` than there are of them."""
    host = places[rank][0]
    here = [other for other, (name, _) in enumerate(places) if name == host]
    workers = [other for other in here if other not in masters]
    allowed = set().union(*(places[other][1] for other in here))
    if rank != here[0] or len(allowed) >= min(len(workers), cores):
        return None
    return (
        f"{len(workers)} workers on {host} share {len(allowed)} of its {cores} cores: start them with "
        "mpirun --bind-to none (Open MPI), mpirun -bind-to none (MPICH) or srun --cpu-bind=none, or ask for more cores"
    )


def set_threads(rank: int, places: Sequence[Place], masters: Collection[int]) -> int:
    """Tell torch; OMP_NUM_THREADS wins."""
    if not os.environ.get("OMP_NUM_THREADS", "").isdigit():
        torch.set_num_threads(fair_threads(rank, places, masters))
    return torch.get_num_threads()
