"""The socket between two ranks of one host, and what is said on it."""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import Protocol

from nnlo.comm.segments import Bytes, Segment
from nnlo.errors import ProtocolError

#: What is said on a socket: of what kind, on which channel, which segment, where in it and how many bytes.
RING = struct.Struct("<BQQQQ")
OPEN, INLINE, IN_PLACE, ELSEWHERE, SHOWN, SUMMED = range(6)


class Inbox(Protocol):
    """One end of a channel, as the node sees it."""

    def opened(self, memory: Bytes) -> None:
        """The other end's inbox is this."""

    def rung(self, kind: int, payload: Bytes, nbytes: int) -> None:
        """A message of so many bytes has come: by itself, in place, or to be copied from there."""

    def lost(self) -> None:
        """The rank at the other end is gone, and says nothing any more."""


class Link:
    """The way to one other rank; until that rank has come to it, what is said waits."""

    def __init__(self, peer: int) -> None:
        self.peer = peer
        self.connection: socket.socket | None = None
        self.over = self.gone = False
        self.segments: dict[int, Bytes] = {}
        self.inboxes: list[Inbox] = []
        self._waiting: deque[tuple[bytes, Segment | None]] = deque()
        self._shown: set[int] = set()

    def connected(self, connection: socket.socket) -> None:
        self.connection = connection
        while self._waiting:
            self.say(*self._waiting.popleft())

    def listens(self, inbox: Inbox) -> None:
        """What the other rank says may be for this one."""
        self.inboxes.append(inbox)
        if self.gone:
            inbox.lost()

    def say(self, words: bytes, segment: Segment | None = None) -> None:
        """`segment` is handed over where the other rank has not seen it. To one that has hung up nothing is said."""
        if self.over:
            return
        if self.connection is None:
            self._waiting.append((words, segment))
            return
        try:
            self._say(self.connection, words, segment)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what it said before is heard first, and then that it is gone
        except OSError as error:
            raise ProtocolError(f"rank {self.peer} cannot be told anything ({error.strerror})") from None

    def _say(self, connection: socket.socket, words: bytes, segment: Segment | None) -> None:
        if segment is None or segment.number in self._shown:
            connection.send(words)
        else:
            self._shown.add(segment.number)
            socket.send_fds(connection, [words], [segment.descriptor])

    def close(self) -> None:
        """Nothing is said any more, on either side."""
        self.over = True
        self._waiting.clear()
        if self.connection is not None:
            self.connection.close()

    def lose(self) -> None:
        """The other rank is gone, and this one goes on without it."""
        self.close()
        if not self.gone:
            self.gone = True
            for inbox in self.inboxes:
                inbox.lost()
