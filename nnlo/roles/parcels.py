"""Long messages between rank 0 and a worker: the state of the worker, or what it is to go on with."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nnlo.comm.base import Source, Transport
from nnlo.comm.messages import Header, Kind
from nnlo.flat import HEADER_BYTES

STATES = 3  # the tag of the channel between rank 0 and a worker
PIECE_BYTES = 1 << 18


class Parcels:
    """Bytes of any number to and from `peer`, in pieces. Raises PeerLost where it is gone."""

    def __init__(self, transport: Transport, peer: int) -> None:
        self._transport = transport
        self._channel = transport.channel(peer, STATES, HEADER_BYTES + PIECE_BYTES)
        self._posted = False
        self._opening: Header | None = None

    async def send(self, data: bytes, kind: Kind = Kind.STATE) -> None:
        """Return once all of it is on its way."""
        rest, out = memoryview(data), self._channel.outgoing
        while True:
            piece, rest = rest[:PIECE_BYTES], rest[PIECE_BYTES:]
            if piece:
                out[HEADER_BYTES : HEADER_BYTES + len(piece)] = torch.frombuffer(bytearray(piece), dtype=torch.uint8)
            header = Header(kind, nbytes=HEADER_BYTES + len(piece), count=len(rest))
            sent = self._channel.send(header, out)
            if not sent.ready:
                await self._transport.wait([sent])
            if not rest:
                return

    def listen(self) -> Source:
        """What is ready once there is something, or the peer is gone."""
        if not self._posted:
            self._channel.post()
            self._posted = True
        return self._channel

    async def begins(self) -> Kind:
        """Of what kind the next message is, once it has begun to come."""
        if self._opening is None:
            self._opening = await self._piece()
        return self._opening.kind

    async def receive(self, take: Callable[[memoryview], object]) -> None:
        """The next message, piece by piece."""
        await self.begins()
        header, self._opening = self._opening, None
        memory = self._channel.incoming.numpy().data
        while header is not None:
            take(memory[HEADER_BYTES : header.nbytes])
            header = await self._piece() if header.count else None

    async def receive_all(self) -> bytes:
        whole = bytearray()
        await self.receive(whole.extend)
        return bytes(whole)

    async def _piece(self) -> Header:
        source = self.listen()
        if not source.ready:
            await self._transport.wait([source])
        self._posted = False
        return self._channel.take()
