"""How far a search has come: a bar on a terminal, otherwise a line every few seconds in which something happened.

12/40 trials  best 0.0312 (#7)  running 2  pruned 3  failed 1  ETA 0:03:20
40/40 trials  best 0.0287 (#31)  running 0  pruned 9  failed 1  in 0:05:02
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple, TextIO

from nnlo.training.progress import LINE_SECONDS, Bar, figure, has_width


class Counts(NamedTuple):
    """Trials that have ended, of which some were pruned and some failed, those that run, and the best one."""

    ended: int
    running: int
    pruned: int = 0
    failed: int = 0
    best: tuple[int, float] | None = None


class SearchProgress:
    """Shows counts of a search of so many `trials`, its best figure and the time that is left.

    stream: default stderr. clock: seconds. before: trials that had ended when a search went on from its record.
    """

    def __init__(
        self,
        trials: int,
        before: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.trials, self._before, self._clock = trials, before, clock
        self._stream = sys.stderr if stream is None else stream
        self._bar = Bar(trials, self._stream) if has_width(self._stream) else None
        self._began, self._due = clock(), -math.inf
        self._shown: Counts | None = None
        self._last = ""

    def show(self, counts: Counts) -> None:
        """Elsewhere than on a terminal, what follows shortly after a line waits for the next call; the end does not."""
        now = self._clock()
        head, text = f"{counts.ended}/{self.trials} trials", self._text(counts, now)
        self._last = f"{head}  {text}"
        if self._bar is not None:
            self._bar.show(head, text, counts.ended)
        elif counts != self._shown and (now >= self._due or counts.ended == self.trials):
            self._shown, self._due = counts, now + LINE_SECONDS
            self._stream.write(self._last + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Of a bar, the last state stays as a line."""
        if self._bar is not None:
            self._bar.print(self._last)
            self._bar.close()
            self._bar = None

    def _text(self, counts: Counts, now: float) -> str:
        parts = [] if counts.best is None else [f"best {figure(counts.best[1])} (#{counts.best[0]})"]
        parts += [f"running {counts.running}", f"pruned {counts.pruned}", f"failed {counts.failed}"]
        return "  ".join([*parts, self._time(counts.ended, now - self._began)])

    def _time(self, ended: int, elapsed: float) -> str:
        """What is left, if trials go on to end as often as they did; what it took, where all have ended."""
        if ended == self.trials:
            return f"in {duration(elapsed)}"
        done = ended - self._before
        return f"ETA {duration(elapsed / done * (self.trials - ended)) if done else '?'}"


def duration(seconds: float) -> str:
    """0:03:20, 1 day, 2:03:04."""
    return str(timedelta(seconds=round(seconds)))
