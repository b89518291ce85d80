"""Ranks of one host: they share memory, and ring one another's doorbell, which is heard without polling.

Every two ranks that exchange have a socket of their own. What travels on it says where a message lies; the message
stays in memory that both have mapped. A rank that waits sleeps in the kernel until a socket speaks.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from functools import partial
from hashlib import blake2b

import numpy as np
from torch import Tensor

from nnlo.comm.link import ELSEWHERE, OPEN, RING, SHOWN, SUMMED, Inbox, Link
from nnlo.comm.segments import Segments, mapped
from nnlo.errors import ProtocolError

GREETING = struct.Struct("<I")
#: Seconds that a rank has to say who it is.
GREETING_TIME = 1.0
CREDENTIALS = struct.Struct("iII")
DESCRIPTOR = struct.Struct("i")
TRUNCATED = int(socket.MSG_CTRUNC)  # the enumeration's own `&` takes as long as the call that it is for
ROOM_FOR_ONE = socket.CMSG_SPACE(DESCRIPTOR.size)
#: Messages up to so many bytes travel with the ring.
SMALL = 1024
ROOM = RING.size + SMALL
BACKLOG = 512
#: Seconds that a rank sleeps at most before it looks again: a signal may come just before it falls asleep.
LONGEST_WAIT = 1.0
#: The same where there are other hosts: MPI moves nothing by itself, and what this rank has handed to it, or is to pass
#: on for others, may still lie there.
LONGEST_AWAY = 0.01
#: Shorter sleeps, in seconds, end on time to the microsecond.
SHORT = 0.01
#: What select() takes is below this.
SELECTABLE = 1024


class Node:
    """This rank among those of its host. `token` names the job there, `rank` and `peers` are ids within it."""

    def __init__(self, token: str, rank: int, peers: frozenset[int]) -> None:
        self.rank, self.peers, self._token = rank, peers, token
        self.segments = Segments()
        self._links: dict[int, Link] = {}
        self._inboxes: dict[int, Inbox] = {}
        self._early: dict[int, list[Callable[[Inbox], None]]] = {}
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self._address(rank))
        self._listener.listen(BACKLOG)
        self._bell, self._ringing = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK), threading.Lock()
        self._poll = select.epoll()
        self.ended: Callable[[int], None] = lambda peer: None
        self._hear: dict[int, Callable[[], None]] = {
            self._listener.fileno(): self._accept,
            self._bell: self._woken,
        }
        for descriptor in self._hear:
            self._poll.register(descriptor, select.EPOLLIN)

    def _address(self, rank: int) -> str:
        return f"\0nnlo-{self._token}-{rank}"

    # Waiting.

    def wait(self, seconds: float) -> None:
        """Take in what others say; sleep until there is something, for at most so long."""
        if 0 < seconds < SHORT and self._poll.fileno() < SELECTABLE:  # epoll counts in milliseconds
            select.select([self._poll], [], [], seconds)
            seconds = 0
        for descriptor, _ in self._poll.poll(seconds):
            hear = self._hear.get(descriptor)
            if hear:
                hear()

    def wake(self) -> None:
        """End a `wait`; for threads of this process."""
        with self._ringing:
            if not self._poll.closed:
                os.eventfd_write(self._bell, 1)

    def _woken(self) -> None:
        os.eventfd_read(self._bell)

    def storage(self, nbytes: int) -> Tensor:
        """Memory that can be sent from without a copy."""
        return self.segments.storage(nbytes)

    # Links.

    def link(self, peer: int) -> Link:
        """Of two ranks the one with the higher number comes to the other."""
        if peer not in self._links:
            self._links[peer] = Link(peer)
            if self.rank > peer:
                connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                connection.connect(self._address(peer))
                connection.send(GREETING.pack(self.rank))
                self._joined(self._links[peer], connection)
        return self._links[peer]

    def reaches(self, peer: int) -> bool:
        """Whether that rank can be come to: hosts may look like one and have networks of their own."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as trial:
                trial.setblocking(False)
                trial.connect(self._address(peer))
        except BlockingIOError:  # many are trying
            return True
        except OSError:
            return False
        return True

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(GREETING_TIME)
        try:
            greeting = connection.recv(GREETING.size) if user_of(connection) == os.getuid() else b""
        except OSError:
            greeting = b""
        peer = int(GREETING.unpack(greeting)[0]) if len(greeting) == GREETING.size else -1
        expected = peer in self.peers and peer > self.rank
        if not expected or self.link(peer).connection is not None:  # a trial, or a stranger
            connection.close()
            return
        connection.settimeout(None)
        self._joined(self.link(peer), connection)

    def _joined(self, link: Link, connection: socket.socket) -> None:
        descriptor = connection.fileno()
        self._hear[descriptor] = lambda: self._listen(link, connection)
        self._poll.register(descriptor, select.EPOLLIN)
        link.connected(connection)

    def _listen(self, link: Link, connection: socket.socket) -> None:
        try:
            words, handed, flags, _ = connection.recvmsg(ROOM, ROOM_FOR_ONE)
        except ConnectionResetError:
            words = b""
        if not words:
            self._hang_up(link)
            self.ended(link.peer)
            return
        if flags & TRUNCATED:
            raise ProtocolError("this process may open no more files: raise the limit (ulimit -n)")
        kind, name, number, start, nbytes = RING.unpack_from(words)
        if handed:
            link.segments[number] = mapped(DESCRIPTOR.unpack(handed[0][2])[0])
        inbox = self._inboxes.get(name)
        if inbox is None:  # it is told once it is there
            self._early.setdefault(name, []).append(partial(tell, link, kind, words, number, start, nbytes))
        else:
            tell(link, kind, words, number, start, nbytes, inbox)

    def _hang_up(self, link: Link) -> None:
        """Its rank says nothing any more."""
        if link.connection is not None and not link.over:
            self._poll.unregister(link.connection)
            del self._hear[link.connection.fileno()]
        link.close()

    def lose(self, peer: int) -> None:
        """Nothing comes of that rank any more, and this one goes on."""
        link = self._links.get(peer)
        if link is not None:
            self._hang_up(link)
            link.lose()

    # Channels.

    def open(self, name: int, inbox: Inbox, peer: int, memory: Tensor, nbytes: int) -> None:
        """A channel's end is there; its inbox, at the start of `memory`'s segment, is shown to the other end."""
        if name in self._inboxes:
            raise ProtocolError(f"rank {self.rank} opens a channel to rank {peer} twice")
        found = self.segments.find(memory)
        assert found is not None
        self.link(peer).say(RING.pack(OPEN, name, found[0].number, 0, nbytes), found[0])
        self.listen(name, inbox, peer)

    def listen(self, name: int, inbox: Inbox, peer: int) -> None:
        """What that rank says under this name is for this inbox, also what it said before."""
        self._inboxes[name] = inbox
        for what in self._early.pop(name, []):
            what(inbox)
        self.link(peer).listens(inbox)

    def close(self) -> None:
        """Nobody says anything any more; threads of this process may still try to."""
        with self._ringing:
            if self._poll.closed:
                return
            self._poll.close()
            os.close(self._bell)
        self._listener.close()
        for link in self._links.values():
            link.close()
            link.inboxes.clear()
        for table in (self._links, self._hear, self._inboxes, self._early):
            table.clear()


def tell(link: Link, kind: int, words: bytes, number: int, start: int, nbytes: int, inbox: Inbox) -> None:
    """Tell a channel what was said about it."""
    if kind == OPEN:
        inbox.opened(link.segments[number][:nbytes])
    elif kind == ELSEWHERE:
        inbox.rung(kind, link.segments[number][start : start + nbytes], nbytes)
    elif kind in (SHOWN, SUMMED):
        inbox.rung(kind, link.segments[number][start:], nbytes)
    else:
        inbox.rung(kind, np.frombuffer(words, np.uint8)[RING.size :], nbytes)


def user_of(connection: socket.socket) -> int:
    """Who is at the other end."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
    user: int = CREDENTIALS.unpack(credentials)[1]
    return user


def channel_name(group: tuple[object, ...], low: int, high: int, tag: int) -> int:
    """The same on both ends: of a group of ranks, two of them and a tag."""
    return hashed(group, low, high, tag)


def collective_name(group: tuple[object, ...], rank: int) -> int:
    """What one rank of a group says about the group's collectives, the same on all its ranks."""
    return hashed(group, "collectives", rank)


def hashed(*parts: object) -> int:
    return int.from_bytes(blake2b(repr(parts).encode(), digest_size=8).digest(), "little")
