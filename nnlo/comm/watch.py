"""Whether those are still there who would never be heard of again: the other ranks, and the launcher."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

from nnlo.errors import LauncherLost, Stranded

#: Seconds between two looks.
INTERVAL = 1.0
#: Seconds that a launcher gets to end a job of which a rank has ended, where no rank is to outlive another.
GRACE = 10.0


class Failures(Protocol):
    """What MPI knows of ranks that have died, where it lets others outlive them; `error` is its exception."""

    @property
    def error(self) -> type[Exception]: ...

    def found(self) -> list[int]:
        """All that it knows of."""


class Watch:
    """`lost` are the ranks that this one has outlived, of each of which `lose` is told once.

    Without `failures` none outlives another: where one has ended, the launcher ends the job, or else this rank does.
    `alarm` is called at every look, and may raise.
    """

    def __init__(self, failures: Failures | None, lose: Callable[[int], None]) -> None:
        self.failures, self._lose = failures, lose
        self.errors = (failures.error,) if failures else ()
        self.lost: set[int] = set()
        self.alarm: Callable[[], None] = lambda: None
        self._ended: dict[int, float] = {}
        self._parent, self._next = os.getppid(), 0.0

    def check(self) -> None:
        """Look from time to time. Raises Stranded or LauncherLost where this rank cannot go on."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + INTERVAL
        if os.getppid() != self._parent:
            raise LauncherLost
        self.alarm()
        self.look()
        for peer, since in self._ended.items():
            if now - since > GRACE:
                raise Stranded(peer)

    def look(self) -> bool:
        """Ask MPI who has died; whether it knew of anyone new."""
        before = len(self.lost)
        for peer in self.failures.found() if self.failures else ():
            self.lose(peer)
        return len(self.lost) > before

    def ended(self, peer: int) -> None:
        """A rank of this host says nothing any more."""
        if self.failures:
            self.lose(peer)
        else:
            self._ended.setdefault(peer, time.monotonic())

    def lose(self, peer: int) -> None:
        """That rank is gone, and this one goes on."""
        if peer not in self.lost:
            self.lost.add(peer)
            self._lose(peer)
