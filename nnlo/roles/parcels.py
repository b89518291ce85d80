"""Long messages between rank 0 and a worker: the state of the worker, on its way into a checkpoint or back."""

from __future__ import annotations

from collections.abc import Callable

import torch

from nnlo.comm.base import Transport
from nnlo.comm.messages import Header, Kind
from nnlo.flat import HEADER_BYTES

STATES = 3  # the tag of the channel between rank 0 and a worker
PIECE_BYTES = 1 << 18


class Parcels:
    """Bytes of any number to and from `peer`, in pieces. Raises PeerLost where it is gone."""

    def __init__(self, transport: Transport, peer: int) -> None:
        self._transport = transport
        self._channel = transport.channel(peer, STATES, HEADER_BYTES + PIECE_BYTES)

    async def send(self, data: bytes) -> None:
        """Return once all of it is on its way."""
        rest, out = memoryview(data), self._channel.outgoing
        while True:
            piece, rest = rest[:PIECE_BYTES], rest[PIECE_BYTES:]
            if piece:
                out[HEADER_BYTES : HEADER_BYTES + len(piece)] = torch.frombuffer(bytearray(piece), dtype=torch.uint8)
            header = Header(Kind.STATE, nbytes=HEADER_BYTES + len(piece), count=len(rest))
            sent = self._channel.send(header, out)
            if not sent.ready:
                await self._transport.wait([sent])
            if not rest:
                return

    async def receive(self, take: Callable[[memoryview], object]) -> None:
        """What has been sent, piece by piece."""
        memory = self._channel.incoming.numpy().data
        while True:
            self._channel.post()
            await self._transport.wait([self._channel])
            header = self._channel.take()
            take(memory[HEADER_BYTES : header.nbytes])
            if not header.count:
                return

    async def receive_all(self) -> bytes:
        whole = bytearray()
        await self.receive(whole.extend)
        return bytes(whole)
