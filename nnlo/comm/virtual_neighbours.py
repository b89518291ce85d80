"""Exchanges with neighbours on the virtual clock: a message to each one, over the links between hosts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nnlo.comm.base import Exchange, Neighbourhood
from nnlo.comm.virtual_collective import Part
from nnlo.errors import ProtocolError

if TYPE_CHECKING:
    from nnlo.comm.virtual_transport import VirtualTransport


class VirtualNeighbourhood(Neighbourhood):
    """Number `number` of its group's."""

    def __init__(
        self, transport: VirtualTransport, heard: Sequence[int], hearers: Sequence[int], nbytes: int, number: int
    ) -> None:
        self.transport, self._nbytes = transport, nbytes
        self._key = (transport.group.key, "neighbours", number)
        self._ears = [Ear(self, (*self._key, transport.peers[place], transport.id)) for place in heard]
        self._hearers = [transport.peers[place] for place in hearers]
        self._under_way: VirtualExchange | None = None
        transport.world.neighbourhoods.append(self)

    def exchange(self, mine: Tensor) -> Exchange:
        if self._under_way is not None or mine.numel() != self._nbytes:
            raise ProtocolError(f"rank {self.transport.id} exchanges {mine.numel()} bytes within another exchange")
        self._under_way = exchange = VirtualExchange(self._ears)
        message = mine.clone()
        for peer in self._hearers:
            self.transport.pay_for(message)
            self.transport.process.debt.pay(partial(self._deliver, peer, message))
        self.transport.pay_for(message, len(self._ears))
        for ear in self._ears:
            ear.listen()
        self.advance()
        for peer in self.transport.world.lost.intersection(self.transport.peers):
            self.lose(peer)
        return exchange

    def _deliver(self, peer: int, message: Tensor) -> None:
        key = (*self._key, self.transport.id, peer)
        self.transport.world.deliver(key, self.transport.id, peer, message, nothing, nothing)

    def advance(self) -> None:
        """Something has come."""
        exchange = self._under_way
        if exchange is not None and all(ear.value is not None for ear in self._ears):
            self._under_way = None
            exchange.finish(self.transport.world, self.transport.process)

    def lose(self, peer: int) -> None:
        """Nobody of the group can be sure of an exchange any more."""
        if self._under_way is not None and peer in self.transport.peers:
            self._under_way.lose(peer, self.transport.world, self.transport.process)


class Ear:
    """Where what one neighbour sends arrives."""

    def __init__(self, neighbourhood: VirtualNeighbourhood, key: tuple[Any, ...]) -> None:
        self._neighbourhood, self._key = neighbourhood, key
        self.value: Tensor | None = None
        self._listens = False
        self.peer = key[-2]
        neighbourhood.transport.world.endpoints[key] = self

    def listen(self) -> None:
        self.value, self._listens = None, True
        self.collect()

    def collect(self) -> None:
        """Take the oldest message that is there."""
        waiting = self._neighbourhood.transport.world.undelivered.get(self._key)
        if self._listens and waiting:
            self.value, _ = waiting.popleft()
            self._listens = False
            self._neighbourhood.advance()

    def lose(self) -> None:
        """The neighbourhood hears of it itself."""


class VirtualExchange(Part, Exchange):
    def __init__(self, ears: Sequence[Ear]) -> None:
        super().__init__()
        self._ears = ears

    def values(self) -> list[Tensor]:
        return [ear.value for ear in self._ears if ear.value is not None]


def nothing() -> None:
    """Nobody waits for this."""
