"""Channels and collectives of ranks that MPI carries messages between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nnlo.comm.base import Channel, Send, Source
from nnlo.comm.messages import Header
from nnlo.comm.motion import Motion, MpiCollective
from nnlo.comm.watch import Watch
from nnlo.errors import PeerLost, ProtocolError

if TYPE_CHECKING:
    from nnlo.comm.mpi import MpiTransport


class MpiChannel(Channel):
    """One end; messages of one peer come in their order, each into the memory that was posted for it."""

    def __init__(self, transport: MpiTransport, peer: int, tag: int, nbytes: int) -> None:
        super().__init__(transport, peer, nbytes)
        self._transport, self._tag = transport, tag
        self.posted = self._arrived = False
        self.gone = peer in transport.motion.watch.lost
        rank = transport.peers.index(peer)
        self._received = self.incoming.numpy().data
        self.request = transport.comm.Recv_init(self._received, rank, tag)

    @property
    def ready(self) -> bool:
        return self._arrived or self.gone

    def post(self) -> None:
        if not self.gone:
            self.request.Start()
            self.posted = True

    def complete(self) -> None:
        self.posted, self._arrived = False, True

    def lose(self) -> None:
        """The peer is gone."""
        self.gone, self.posted = True, False

    def take(self) -> Header:
        if not self._arrived:
            raise PeerLost(self.peer) if self.gone else ProtocolError(f"no message from rank {self.peer} to take")
        self._arrived = False
        return Header.read(self._received)

    def send_written(self, memory: Tensor, nbytes: int, until_taken: bool = False) -> Send:
        return self._transport.start_send(memory.numpy().data[:nbytes], self.peer, self._tag, until_taken)


def started(watch: Watch, start: Callable[..., Any], *parts: Any) -> Any:
    """The request of a collective; None where MPI knows of one who has died already, and does not start it."""
    try:
        return start(*parts)
    except watch.errors:
        if not (watch.look() or watch.lost):
            raise
        return None


class MpiGroup:
    """The collectives of a communicator; `in_place` is MPI's sign for memory that is both read and written."""

    def __init__(self, comm: Any, peers: Sequence[int], motion: Motion, in_place: Any) -> None:
        self._comm, self._peers, self._motion, self._in_place = comm, frozenset(peers), motion, in_place

    def allreduce(self, memory: Tensor) -> Source:
        return self._begin(self._comm.Iallreduce, self._in_place, memory.numpy())

    def gather_all(self, mine: Tensor, everyone: Tensor) -> Source:
        return self._begin(self._comm.Iallgather, mine.numpy(), everyone.numpy())

    def broadcast(self, memory: Tensor, root: int) -> Source:
        return self._begin(self._comm.Ibcast, memory.numpy(), root)

    def _begin(self, start: Callable[..., Any], *parts: Any) -> Source:
        watch = self._motion.watch
        request = started(watch, start, *parts)
        collective = MpiCollective(request, watch, self._comm, self._peers)
        return self._motion.begin(collective) if request else collective

    def give_up(self) -> None:
        """What is under way touches no memory any more. The communicator is of no use afterwards."""
        self._comm.Revoke()
        self._motion.give_up(self._comm)
