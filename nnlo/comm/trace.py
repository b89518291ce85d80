"""What a rank did when, as spans of its transport's clock; kept only where a timeline is asked for."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

#: A name, when it began and ended (seconds), and values that `VALUES` names.
Span = tuple[Any, ...]

#: The spans of a rank's own thread, and what their values are. Spans of other names are work done aside.
VALUES: dict[str, tuple[str, ...]] = {
    "setup": (),
    "compute": ("samples",),
    "batch wait": (),
    "exchange": ("bytes", "version", "new_version"),
    "send wait": (),
    "reply wait": (),
    "idle": (),
    "step": ("version", "updates", "samples", "staleness"),
    "validation wait": (),
    "team wait": (),
}
ASIDE_VALUES = ("samples",)

#: Spans kept of a rank, and of all ranks together: what bounds memory, and the file to some 100 MB.
MOST_SPANS, MOST_SPANS_IN_ALL = 100_000, 1_000_000


class Trace:
    """Keeps nothing: what roles call where no timeline is asked for."""

    on = False

    def now(self) -> float:
        """When a span begins that `add` will end."""
        return 0.0

    def add(self, name: str, began: float, *values: int) -> None:
        """A span ends now; those of one thread nest."""

    def timed(self, work: Callable[[], T], name: str, samples: int) -> Callable[[], T]:
        """`work` as a span of its own, for another thread."""
        return work


class Recording(Trace):
    """Keeps the newest `most` spans by `clock`; threads may add at the same time."""

    on = True

    def __init__(self, clock: Callable[[], float], most: int = MOST_SPANS) -> None:
        self._clock = clock
        self._count = itertools.count()
        self._kept: deque[Span] = deque(maxlen=most)

    def now(self) -> float:
        return self._clock()

    def add(self, name: str, began: float, *values: int) -> None:
        self._kept.append((next(self._count), name, began, self._clock(), *values))

    def timed(self, work: Callable[[], T], name: str, samples: int) -> Callable[[], T]:
        def measured() -> T:
            began = self._clock()
            try:
                return work()
            finally:
                self.add(name, began, samples)

        return measured

    def taken(self) -> tuple[list[Span], int]:
        """The spans that are kept, in the order of their ends, and how many older ones were dropped."""
        kept = sorted(self._kept)
        return [span[1:] for span in kept], kept[-1][0] + 1 - len(kept) if kept else 0


def spans_of_each(ranks: int) -> int:
    """How many spans each of so many ranks may keep."""
    return max(1, min(MOST_SPANS, MOST_SPANS_IN_ALL // ranks))
