"""Signals that tell a job to leave: noted, so that a checkpoint can be written before it does."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

WATCHED = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


class Signals:
    """A context in which the first of the signals is noted as `caught`, by its name; a second one has its own effect.

    One that is ignored stays so. Outside of a process's main thread, where Python has no signals, nothing is noted.
    above: a context around this one that notes them for both.
    """

    def __init__(self, above: Signals | None = None) -> None:
        self._caught: str | None = None
        self._above = above
        self._before: dict[signal.Signals, Any] = {}

    @property
    def caught(self) -> str | None:
        return self._caught or (self._above.caught if self._above else None)

    @caught.setter
    def caught(self, name: str | None) -> None:
        self._caught = name

    def __enter__(self) -> Signals:
        self.caught = None
        if self._above is None and threading.current_thread() is threading.main_thread():
            watched = [one for one in WATCHED if signal.getsignal(one) is not signal.SIG_IGN]
            self._before = {one: signal.signal(one, self._note) for one in watched}
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for one, handler in self._before.items():
            signal.signal(one, signal.SIG_DFL if handler is None else handler)  # None: not Python's own
        self._before = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.caught is None:
            self.caught = signal.Signals(number).name
            return
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
