"""The cores of one simulated host, shared evenly by what runs on them; what a rank owes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False)
class Job:
    remaining: float
    done: Callable[[], None]


class Cpu:
    """Jobs at equal shares: with more jobs than cores each runs at `cores / jobs` of full speed.

    `at(time, action)` schedules an action; `now()` reads the clock.
    """

    def __init__(self, cores: float, now: Callable[[], float], at: Callable[[float, Callable[[], None]], None]) -> None:
        self.cores, self._now, self._at = cores, now, at
        self._jobs: list[Job] = []
        self._since = 0.0
        self._plan = 0

    def run(self, seconds: float, done: Callable[[], None]) -> None:
        """Call `done` when `seconds` of one core's work have been given to it."""
        self._advance()
        self._jobs.append(Job(seconds, done))
        self._replan()

    def _rate(self) -> float:
        return min(1.0, self.cores / len(self._jobs)) if self._jobs else 1.0

    def _advance(self) -> None:
        worked = (self._now() - self._since) * self._rate()
        for job in self._jobs:
            job.remaining -= worked
        self._since = self._now()

    def _replan(self) -> None:
        self._plan += 1
        if self._jobs:
            plan, shortest = self._plan, min(job.remaining for job in self._jobs)
            self._at(self._now() + max(0.0, shortest) / self._rate(), lambda: self._finish(plan))

    def _finish(self, plan: int) -> None:
        """End what the plan of that number was made for, unless jobs came since."""
        if plan != self._plan:
            return
        shortest = min(job.remaining for job in self._jobs)
        ended = [job for job in self._jobs if job.remaining <= shortest + 1e-12 * abs(shortest)]
        self._advance()
        self._jobs = [job for job in self._jobs if job not in ended]
        self._replan()
        for job in ended:
            job.done()


class Debt:
    """What one rank has done without its core's time having passed; it is paid bit by bit, in order."""

    def __init__(self, cpu: Cpu) -> None:
        self._cpu, self._owed = cpu, 0.0
        self._payments: deque[tuple[float, Callable[[], None]]] = deque()

    def add(self, seconds: float) -> None:
        self._owed += seconds

    def pay(self, then: Callable[[], None]) -> None:
        """Call `then` once all that is owed has been paid, and all before it has been called: at once without debt."""
        if not self._owed and not self._payments:
            then()
            return
        self._payments.append((self._owed, then))
        self._owed = 0.0
        if len(self._payments) == 1:
            self._begin()

    def _begin(self) -> None:
        self._cpu.run(self._payments[0][0], self._paid)

    def _paid(self) -> None:
        self._payments[0][1]()
        self._payments.popleft()
        if self._payments:
            self._begin()
