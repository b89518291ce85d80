"""Collectives on the virtual clock: what they do to the ranks' memory, and how long that takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from nnlo.comm.base import Send
from nnlo.comm.costs import Costs
from nnlo.comm.virtual import Group, Process, VirtualWorld
from nnlo.errors import PeerLost

Memories = Sequence[Sequence[Tensor]]


class Done(Send):
    """Something of a rank's that takes its time; ready once that has passed."""

    def __init__(self) -> None:
        self._done = False

    @property
    def ready(self) -> bool:
        return self._done

    def finish(self, world: VirtualWorld, process: Process) -> None:
        self._done = True
        world.notify(process, self)


class Part(Done):
    """What a rank waits for that takes part in a collective."""

    def __init__(self) -> None:
        super().__init__()
        self._lost: int | None = None

    @property
    def ready(self) -> bool:
        if self._lost is not None:
            raise PeerLost(self._lost)
        return self._done

    def lose(self, peer: int, world: VirtualWorld, process: Process) -> None:
        """For want of that rank it cannot be finished any more."""
        if not self._done and self._lost is None:
            self._lost = peer
            world.notify(process, self)


@dataclass
class Collective:
    """One collective of a group: `work` on the memory of all who take part, in `steps`; `nbytes` pass each link.

    `what` it is must be the same on every rank. `left` are not done with it, which they never will be where it is
    `torn`: one of them died.
    """

    key: tuple[Any, ...]
    group: Group
    what: str
    work: Callable[[Memories], None]
    steps: int
    nbytes: float
    parts: dict[int, tuple[Sequence[Tensor], Process, Part]] = field(default_factory=dict)
    left: int = 0
    torn: bool = False

    def ends(self, now: float, costs: Costs, local: bool) -> float:
        """When it is done where all are there `now`: its bytes pass after those of the group's collectives before."""
        latency, bandwidth = costs.latency, costs.bandwidth
        if local:
            latency, bandwidth = costs.local_latency, costs.local_bandwidth
        self.group.busy = max(now, self.group.busy) + self.nbytes / bandwidth
        return self.group.busy + self.steps * latency


def ring_allreduce(size: int, nbytes: int) -> tuple[int, float]:
    """Steps and bytes a link of a reduction in a ring."""
    return 2 * (size - 1), 2 * (size - 1) / size * nbytes


def ring_gather(size: int, nbytes: int) -> tuple[int, float]:
    """The same of a gathering, `nbytes` from each."""
    return size - 1, (size - 1) * nbytes


def tree_broadcast(size: int, nbytes: int) -> tuple[int, float]:
    """The same of a broadcast down a binary tree."""
    depth = math.ceil(math.log2(size))
    return depth, depth * nbytes


def add_up(memories: Memories) -> None:
    """Each memory becomes the sum, in the order of the group."""
    total = memories[0][0].clone()
    for (memory,) in memories[1:]:
        total.add_(memory)
    for (memory,) in memories:
        memory.copy_(total)


def pass_round(memories: Memories) -> None:
    """Each second memory gets all first ones."""
    parts = [mine.clone() for mine, _ in memories]
    for _, everyone in memories:
        for place, part in zip(everyone, parts, strict=False):
            place.copy_(part)


def hand_out(root: int) -> Callable[[Memories], None]:
    def work(memories: Memories) -> None:
        for (memory,) in memories:
            memory.copy_(memories[root][0])

    return work
