"""The master's weights, in arenas that are sent from as they are.

A reply leaves straight from the weights' own memory. While it is on its way that memory may not
change, so whoever wants to write meanwhile gets a copy in a spare arena: copy on write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nnlo.comm.base import Channel, Send
from nnlo.comm.messages import Header
from nnlo.flat import Arena

#: Arenas that nothing is leaving from, kept for the next time that one is needed.
KEPT_SPARES = 2


@dataclass(eq=False)
class Pinned:
    """An arena, the header in it, and the messages that are leaving from it."""

    arena: Arena
    header: Header | None = None
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
            free = [spare for spare in self._spare if spare.free()]
            fresh = free[0] if free else Pinned(self._make())
            fresh.arena.copy_body(self._current.arena)
            busy = [spare for spare in self._spare if spare.sends]
            self._spare = [*busy, *free[1 : KEPT_SPARES + 1], self._current]
            self._current = fresh
        self._current.header = None
        return self._current.arena

    def send(self, channel: Channel, header: Header) -> None:
        """Send the weights, from where they lie; replies that say the same leave from the same memory."""
        if self._current.header != header:
            header.write(self.writable().storage.numpy().data)
            self._current.header = header
        self._current.sends.append(channel.send_written(self._current.arena.storage, header.nbytes))
