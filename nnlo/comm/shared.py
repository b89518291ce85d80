"""Channels between ranks of one host, through memory that both have mapped.

A channel's end has an inbox: room for one message, and behind it two counts that its owner writes and the other end
reads: how often there was room, and how many messages have been copied. A message comes in one of three ways:

- in place: the sender wrote it into the inbox. It may write there again when there is room for the next.
- from elsewhere: it lies in memory of the sender's, from where the receiver copies it into its inbox.
- small ones travel with the ring. A header alone leaves the inbox as it is: the sender may be writing there.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from nnlo.comm.base import Channel, Send, Transport
from nnlo.comm.link import ELSEWHERE, IN_PLACE, INLINE, RING
from nnlo.comm.messages import Header
from nnlo.comm.node import LONGEST_AWAY, SMALL, Node
from nnlo.comm.segments import Bytes
from nnlo.errors import PeerLost, ProtocolError
from nnlo.flat import ALIGNMENT, HEADER_BYTES, aligned

#: Bytes behind an inbox for its counts, on a cache line of their own.
COUNTS_BYTES = ALIGNMENT
ROOMS, COPIED = 0, 1

Message: TypeAlias = "tuple[int, Bytes, int]"


class SharedSend(Send):
    """Message number `count` of a channel, until `counter` of the other end's counts is at least `least`."""

    def __init__(self, channel: SharedChannel, counter: int, least: int) -> None:
        self._channel, self._counter, self._least = channel, counter, least

    @property
    def ready(self) -> bool:
        return self._channel.told(self._counter) >= self._least or self._channel.gone


def counts(memory: Bytes) -> memoryview:
    """The counts behind an inbox: quicker to look at as this than by numpy or torch."""
    return memory[-COUNTS_BYTES:].data.cast("q")


class Sent(Send):
    """A message that has left."""

    ready = True


SENT = Sent()


class SharedChannel(Channel):
    """One end; `name` is the same on both."""

    def __init__(self, node: Node, transport: Transport, peer: int, name: int, nbytes: int) -> None:
        self._node, self._name, self._link = node, name, node.link(peer)
        self._progress = transport.progress
        self._end = aligned(nbytes)
        inbox = node.storage(self._end + COUNTS_BYTES)
        self._counts = counts(inbox.numpy())
        self._theirs: Tensor | None = None
        self._their_counts = counts(np.zeros(COUNTS_BYTES, np.uint8))
        self._waiting: deque[Message] = deque()
        self._rooms = self._copied = self._sent = 0
        self._leaving: deque[tuple[int, Tensor]] = deque()
        self._in_place = False
        self.posted = self._arrived = self.gone = False
        super().__init__(transport, peer, nbytes, inbox[:nbytes])
        self._inbox = self.incoming.numpy()
        self._header = self._inbox.data
        node.open(name, self, peer, inbox, self._end + COUNTS_BYTES)

    rings = True

    # What the node tells.

    def opened(self, memory: Bytes) -> None:
        self._theirs = torch.from_numpy(memory[:-COUNTS_BYTES])
        self._their_counts = counts(memory)

    def rung(self, kind: int, payload: Bytes, nbytes: int) -> None:
        self._waiting.append((kind, payload, nbytes))
        self._receive()

    def lost(self) -> None:
        self.gone = True

    def told(self, counter: int) -> int:
        """What the other end counts."""
        return self._their_counts[counter]

    # Receiving.

    @property
    def ready(self) -> bool:
        return self._arrived or self.gone

    def post(self) -> None:
        self.posted = True
        self._rooms += 1
        self._counts[ROOMS] = self._rooms
        self._receive()

    def _receive(self) -> None:
        """Take the oldest message that is there, if room was made for it."""
        if not (self.posted and self._waiting):
            return
        kind, payload, nbytes = self._waiting.popleft()
        if kind == INLINE and nbytes == HEADER_BYTES:
            self._header = payload.data
        else:
            self._header = self._inbox.data
            if kind != IN_PLACE:
                np.copyto(self._inbox[:nbytes], payload)
        self._copied += 1
        self._counts[COPIED] = self._copied
        self.posted, self._arrived = False, True

    def take(self) -> Header:
        if not self._arrived:
            raise PeerLost(self.peer) if self.gone else ProtocolError(f"no message from rank {self.peer} to take")
        self._arrived = False
        return Header.read(self._header)

    # Sending.

    def slot(self, nbytes: int) -> Tensor:
        self._in_place = True
        while self._theirs is None and not self.gone:
            self._node.wait(LONGEST_AWAY)
            self._progress()
        return self._node.storage(nbytes) if self._theirs is None else self._theirs[:nbytes]

    def send_written(self, memory: Tensor, nbytes: int, until_taken: bool = False) -> Send:
        self._sent += 1
        while self._leaving and self._leaving[0][0] <= self.told(COPIED):
            self._leaving.popleft()
        if nbytes == HEADER_BYTES:
            return self._send_inline(memory, nbytes, until_taken)
        if self.gone:
            return SENT
        if self._in_place:
            if self._theirs is None or memory.data_ptr() != self._theirs.data_ptr():
                raise ProtocolError("a channel whose slot is in use carries no message from elsewhere")
            self._link.say(RING.pack(IN_PLACE, self._name, 0, 0, nbytes))
            return SharedSend(self, ROOMS, self._sent + 1)
        if nbytes <= SMALL:
            return self._send_inline(memory, nbytes, until_taken)
        found = self._node.segments.find(memory)
        if found is None:
            raise ProtocolError("messages between ranks of one host are sent from memory of the transport")
        segment, start = found
        self._leaving.append((self._sent, memory))  # until it has been copied
        self._link.say(RING.pack(ELSEWHERE, self._name, segment.number, start, nbytes), segment)
        return SharedSend(self, COPIED, self._sent)

    def _send_inline(self, memory: Tensor, nbytes: int, until_taken: bool) -> Send:
        self._link.say(RING.pack(INLINE, self._name, 0, 0, nbytes) + bytes(memory.numpy().data[:nbytes]))
        return SharedSend(self, COPIED, self._sent) if until_taken else SENT
