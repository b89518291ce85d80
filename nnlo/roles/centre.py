"""The master's weights, in arenas that are sent from as they are.

A reply leaves straight from the weights' own memory. While it is on its way that memory may not
change, so whoever wants to write meanwhile gets a copy in a spare arena: copy on write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from nnlo.comm.base import Channel, Send
from nnlo.comm.tables import Opening
from nnlo.flat import Arena

#: Arenas that nothing is leaving from, kept for the next time that one is needed.
KEPT_SPARES = 2


@dataclass(eq=False)
class Pinned:
    """An arena, the header in it, the messages that are leaving from it, and how many are `owed` from it yet."""

    arena: Arena
    header: Opening | None = None
    sends: list[Send] = field(default_factory=list)
    owed: int = 0

    def leaving(self) -> bool:
        self.sends = [send for send in self.sends if not send.ready]
        return bool(self.sends)

    def free(self) -> bool:
        return not self.owed and not self.leaving()

    def says_other_than(self, header: Opening) -> bool:
        return self.header is not None and self.header != header


class Ring:
    """Arenas that messages leave from; `make` gives a new one of the transport's memory."""

    def __init__(self, make: Callable[[], Arena]) -> None:
        self._make = make
        self._spare: list[Pinned] = []

    def fresh(self) -> Pinned:
        """An arena that nothing is leaving from. It is the caller's until it is given `back`."""
        free: list[Pinned] = []
        busy: list[Pinned] = []
        for spare in self._spare:
            (free if spare.free() else busy).append(spare)
        self._spare = [*busy, *free[1 : KEPT_SPARES + 1]]
        found = free[0] if free else Pinned(self._make())
        found.header = None
        return found

    def back(self, pinned: Pinned) -> None:
        """It may be used again once nothing is leaving from it."""
        self._spare.append(pinned)

    def send(self, channel: Channel, header: Opening, pinned: Pinned) -> None:
        """Send one that was given back, with this header; several that say the same leave from the same memory."""
        pinned.owed = max(0, pinned.owed - 1)
        if pinned.says_other_than(header) and pinned.leaving():
            copy = self.fresh()
            copy.arena.copy_body(pinned.arena)
            self.back(copy)
            pinned = copy
        leave(channel, header, pinned)


class Centre(Ring):
    """The weights and buffers now, and what replies are still leaving from."""

    def __init__(self, make: Callable[[], Arena]) -> None:
        super().__init__(make)
        self._current = Pinned(make())

    @property
    def arena(self) -> Arena:
        """The weights and buffers now, for reading."""
        return self._current.arena

    def writable(self) -> Arena:
        """The same, in memory that nothing is leaving from."""
        if not self._current.free():
            self._move()
        self._current.header = None
        return self._current.arena

    def freeze(self, owed: int) -> Pinned:
        """The weights as they are now, for so many answers, whatever becomes of the centre."""
        kept = self._current
        kept.owed += owed
        return kept

    def _move(self) -> None:
        fresh = self.fresh()
        fresh.arena.copy_body(self._current.arena)
        self.back(self._current)
        self._current = fresh

    def send_current(self, channel: Channel, header: Opening) -> None:
        """Send the weights, from where they lie; replies that say the same leave from the same memory."""
        if self._current.says_other_than(header) and self._current.leaving():
            self._move()
        leave(channel, header, self._current)


def leave(channel: Channel, header: Opening, pinned: Pinned) -> None:
    if pinned.header is None or pinned.header != header:
        header.write(pinned.arena.memory)
        pinned.header = header
    pinned.sends.append(channel.send_written(pinned.arena.storage, header.nbytes))
