"""Time lines of workers that exchange with a master: when each computes, waits, and is answered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Update:
    """A gradient of `worker`, computed from `begin` to `end` and applied at `applied` as the centre's step `step`.

    `stale`: the steps that the centre made in between.
    """

    worker: int
    begin: float
    end: float
    applied: float
    step: int
    stale: int


def asynchronous(seconds: Sequence[float], until: float, master: float) -> list[Update]:
    """Each update is applied as it comes. `seconds`: of a gradient on each worker; `master`: of a step."""
    begun = [(0.0, 0)] * len(seconds)
    free, steps, updates = 0.0, 0, []
    while True:
        worker = min(range(len(seconds)), key=lambda i: begun[i][0] + seconds[i])
        begin, version = begun[worker]
        end = begin + seconds[worker]
        if end > until:
            return updates
        free = max(free, end) + master
        updates.append(Update(worker, begin, end, free, steps + 1, steps - version))
        steps += 1
        begun[worker] = free, steps


def synchronous(seconds: Sequence[float], until: float, master: float) -> list[Update]:
    """A step takes one update of every worker."""
    now, step, updates = 0.0, 1, []
    while now + max(seconds) <= until:
        applied = now + max(seconds) + master
        updates += [Update(i, now, now + spent, applied, step, 0) for i, spent in enumerate(seconds)]
        now, step = applied, step + 1
    return updates
