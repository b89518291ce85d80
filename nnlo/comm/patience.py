"""How a rank waits: a short spin, then sleeps that grow to a cap, so that its core is free for others."""

from __future__ import annotations

import ctypes
import time

SPIN = 20e-6
FIRST_SLEEP = 20e-6
GROWTH = 1.2
LONGEST_SLEEP = 200e-6

PR_SET_TIMERSLACK = 29


def sharpen_timer() -> None:
    """Ask Linux to end this thread's sleeps on time, not up to 50 us late; elsewhere nothing happens."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)


class Patience:
    """One wait; `pause` is called between two looks."""

    def __init__(self, spin: bool) -> None:
        self._spin = spin
        self._until = time.perf_counter() + SPIN
        self._sleep = FIRST_SLEEP

    def pause(self) -> None:
        if self._spin or time.perf_counter() < self._until:
            return
        time.sleep(self._sleep)
        self._sleep = min(GROWTH * self._sleep, LONGEST_SLEEP)
