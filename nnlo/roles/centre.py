"""The master's weights, in arenas that are sent from as they are.

A reply leaves straight from the weights' own memory. While it is on its way that memory may not
change, so whoever wants to write meanwhile gets a copy in a spare arena: copy on write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nnlo.comm.base import Send
from nnlo.flat import Arena


@dataclass
class Pinned:
    """An arena and the messages that are leaving from it."""

    arena: Arena
    sends: list[Send] = field(default_factory=list)

    def free(self) -> bool:
        self.sends = [send for send in self.sends if not send.ready]
        return not self.sends


class Centre:
    """`make` gives a new arena of the transport's memory."""

    def __init__(self, make: Callable[[], Arena]) -> None:
        self._make = make
        self._current = Pinned(make())
        self._spare: list[Pinned] = []

    @property
    def arena(self) -> Arena:
        """The weights and buffers now, for reading."""
        return self._current.arena

    def writable(self) -> Arena:
        """The same, in memory that nothing is leaving from."""
        if not self._current.free():
            fresh = next((spare for spare in self._spare if spare.free()), None)
            if fresh is None:
                fresh = Pinned(self._make())
            else:
                self._spare.remove(fresh)
            fresh.arena.copy_body(self._current.arena)
            self._spare.append(self._current)
            self._current = fresh
        return self._current.arena

    def pin(self, send: Send) -> None:
        """A message is leaving from the current arena."""
        self._current.sends.append(send)
