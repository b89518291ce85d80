"""How a rank waits: a short spin, then sleeps that grow to a cap, so that its core is free for others."""

from __future__ import annotations

import ctypes
import time

SPIN = 20e-6
FIRST_SLEEP = 20e-6
GROWTH = 1.2
LONGEST_SLEEP = 1e-3

PR_SET_TIMERSLACK = 29


def sharpen_timer() -> None:
    """Ask Linux to end this thread's sleeps on time, not up to 50 us late; elsewhere nothing happens."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)


class Patience:
    """One wait; between two looks there is a `pause`, of so many `seconds`."""

    def __init__(self, spin: bool) -> None:
        self.spin = spin
        self._until = time.perf_counter() + SPIN
        self._sleep = FIRST_SLEEP

    def seconds(self) -> float:
        """How long the next pause is."""
        if self.spin or time.perf_counter() < self._until:
            return 0.0
        seconds, self._sleep = self._sleep, min(GROWTH * self._sleep, LONGEST_SLEEP)
        return seconds

    def pause(self) -> None:
        if seconds := self.seconds():
            time.sleep(seconds)
