"""A rank whose own work does not get on ends itself: for the others it is lost, which they know how to deal with.

What it looks at is the work of a worker's thread, the reading of its batches and its gradients, never the waiting for
other ranks. Where that hangs in code that lets no Python run beside it, Python's faulthandler ends the process.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time

from nnlo.logs import note_error

STDERR = 2
#: Looks at the work in the time that it may take.
LOOKS = 8
#: How much longer than that faulthandler waits.
LATER = 1.25


class Watchdog:
    """Looks, between start and stop, whether one piece of work takes more than `seconds`, 0 for no limit.

    name: of the rank, in words.
    """

    def __init__(self, seconds: float = 0.0, name: str = "") -> None:
        self._seconds, self._name = seconds, name
        self._since: float | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watchdog", daemon=True)

    def start(self) -> None:
        if self._seconds:
            self._set_alarm()
            self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
            faulthandler.cancel_dump_traceback_later()

    def begin(self) -> None:
        """A piece of work begins."""
        self._since = time.monotonic()

    def end(self) -> None:
        """It is done."""
        self._since = None

    def _look(self) -> None:
        while not self._over.wait(self._seconds / LOOKS):
            self._set_alarm()
            since = self._since
            if since is not None and time.monotonic() - since > self._seconds:
                self._give_up()

    def _set_alarm(self) -> None:
        faulthandler.dump_traceback_later(LATER * self._seconds, exit=True, file=STDERR)

    def _give_up(self) -> None:
        text = f"nnlo: {self._name} hangs: it has read or computed one batch for {self._seconds:g} s (--stall-timeout)"
        note_error(text)
        print(f"{text}; it ends, and this is where it was:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(STDERR, all_threads=True)
        os.kill(os.getpid(), signal.SIGKILL)
