"""What a role sees of the other ranks: channels, one wait, a clock, work done aside.

Roles are coroutines. Whatever takes time is awaited as an `Effect`, which the world that runs the
role carries out: `nnlo.comm.mpi` for real, `nnlo.comm.virtual` on a simulated clock. A rank is named
by its peer id, the rank it had in the first communicator, which never changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator, Sequence
from functools import cached_property
from typing import Any, Generic, NoReturn, TypeVar

from torch import Tensor

from nnlo.comm.messages import Header
from nnlo.comm.trace import Trace

T = TypeVar("T")

#: How an idle rank waits, and how ranks of one host exchange.
WAITS = ("sleep", "spin")
TRANSPORTS = ("auto", "mpi", "shm")


class Effect(Generic[T]):
    """Something to be carried out by the world; `await effect` gives its result."""

    def __await__(self) -> Generator[Effect[T], T, T]:
        result = yield self
        return result


class Source(ABC):
    """Something that `wait` can wait for. `rings`: what waits is told when it gets ready, and need not look."""

    rings = False

    @property
    @abstractmethod
    def ready(self) -> bool: ...


class Send(Source):
    """A message on its way; once ready, its memory may be written again."""


class Channel(Source):
    """Messages to and from one peer; ready when one has arrived (or the peer is lost).

    `incoming` and `outgoing` are uint8 tensors of `nbytes` that the transport owns.
    """

    def __init__(self, transport: Transport, peer: int, nbytes: int, incoming: Tensor | None = None) -> None:
        self.peer, self._storage, self._nbytes = peer, transport.storage, nbytes
        self.incoming = transport.storage(nbytes) if incoming is None else incoming

    @cached_property
    def outgoing(self) -> Tensor:
        return self._storage(self._nbytes)

    def slot(self, nbytes: int) -> Tensor:
        """Memory to write the next message in, uint8 of shape (nbytes,); where it can be, that which the peer reads.

        It may be written once the message before has left it. The peer's end has to have room for so many bytes.
        """
        return self._storage(nbytes)

    @abstractmethod
    def post(self) -> None:
        """Let the next message come into `incoming`, which is not to be touched until it is ready."""

    @abstractmethod
    def take(self) -> Header:
        """The header of the message that arrived; raises PeerLost. `post` makes room for the next."""

    def send(self, header: Header, memory: Tensor | None = None) -> Send:
        """Write `header` into `memory` (default `outgoing`) and start sending its `header.nbytes`."""
        memory = self.outgoing if memory is None else memory
        header.write(memory.numpy().data)
        return self.send_written(memory, header.nbytes)

    @abstractmethod
    def send_written(self, memory: Tensor, nbytes: int, until_taken: bool = False) -> Send:
        """Start sending `memory`, which opens with a header already, and which others may be sending too.

        until_taken: it is ready no sooner than the peer has room for it, also where it could lie on the way.
        """


class Task(Source, Generic[T]):
    """Work done aside, for example a validation or the reading of a batch."""

    @abstractmethod
    def result(self) -> T:
        """What the work returned; raises what it raised. Only once ready."""


class Exchange(Source):
    """What a rank gets from those whom it hears; ready once all of it is there."""

    @abstractmethod
    def values(self) -> list[Tensor]:
        """Of each, in their order, what it gave: uint8. They may lie where those ranks wrote them, and are as they are
        until this rank begins another collective of the group."""


class Neighbourhood(ABC):
    """Whom a rank of a group hears and who hears it."""

    @abstractmethod
    def exchange(self, mine: Tensor) -> Exchange:
        """Give `mine`, uint8 of the same shape (nbytes,) on all ranks, to the hearers.

        Every rank of the group starts the same ones in the same order; `mine` is not to be touched until it is ready.
        """


class Transport(ABC):
    """One rank's end of a group of ranks; `trace` is told what the rank does when."""

    id: int
    peers: tuple[int, ...]
    trace = Trace()

    @property
    def rank(self) -> int:
        """This rank's place in the group."""
        return self.peers.index(self.id)

    @property
    def size(self) -> int:
        return len(self.peers)

    @abstractmethod
    def clock(self) -> float:
        """Seconds since the world began, real or virtual."""

    @abstractmethod
    def storage(self, nbytes: int) -> Tensor:
        """Memory that this transport sends from without a copy: zeroed uint8, shape (nbytes,)."""

    @property
    @abstractmethod
    def shares(self) -> bool:
        """Whether the ranks of the group can have memory in common."""

    @abstractmethod
    async def common(self, nbytes: int) -> Tensor:
        """Memory that all ranks of the group have, where it `shares`: zeroed uint8, shape (nbytes,)."""

    @abstractmethod
    def channel(self, peer: int, tag: int, nbytes: int) -> Channel:
        """A channel for messages of up to `nbytes` bytes; the peer opens its end with the same tag."""

    def progress(self) -> None:  # noqa: B027
        """Let what is under way move on, without waiting; for who computes for long."""

    @abstractmethod
    async def compute(self, work: Callable[[], T], samples: int) -> T:
        """Run `work` here and now; `samples` is what its cost is reckoned from on a virtual clock."""

    @abstractmethod
    def offload(self, work: Callable[[], T], name: str, samples: int = 0) -> Task[T]:
        """Run `work` aside, one after another under each `name`; gradients need the caller's own thread."""

    @abstractmethod
    async def wait(self, sources: Sequence[Source], deadline: float | None = None) -> list[Source]:
        """The sources that are ready, at least one, or none once the clock has passed `deadline`.

        Raises PeerLost where a collective is waited for that nobody can finish, since one of its ranks is lost.
        """

    @abstractmethod
    async def allgather(self, data: bytes) -> list[bytes]:
        """Everyone's bytes, in the order of the group; the lost are left out. Not for use in training."""

    # Collectives: every rank of the group starts the same ones in the same order; memory is not to be touched
    # until the source is ready.

    @abstractmethod
    def allreduce(self, memory: Tensor) -> Source:
        """Replace `memory`, the same type and shape everywhere, by the sum over the group."""

    @abstractmethod
    def gather_all(self, mine: Tensor, everyone: Tensor) -> Source:
        """Fill `everyone`, shape (size, n), with each rank's `mine`, shape (n,), in the order of the group."""

    @abstractmethod
    def broadcast(self, memory: Tensor, root: int) -> Source:
        """Replace `memory` by that of rank `root` of the group."""

    @abstractmethod
    def neighbourhood(self, heard: Sequence[int], hearers: Sequence[int], nbytes: int) -> Neighbourhood:
        """This rank's, by places in the group, for exchanges of so many bytes.

        Every rank of the group makes its own, at the same time; `hearers` are those who name this rank among `heard`.
        """

    @abstractmethod
    async def split(self, color: int | None) -> Transport | None:
        """The group of the ranks that give the same colour, in the order of this one; None stays out."""

    @abstractmethod
    async def perish(self, reason: str) -> NoReturn:
        """End this rank at once: for the others it is lost, which they know how to deal with."""

    @abstractmethod
    async def regroup(self, peers: tuple[int, ...]) -> Transport:
        """The group of these ranks, all that are left of this one; each of them calls it.

        This group's collectives that are under way are given up, and touch no memory afterwards; nothing more is begun
        in it. Raises PeerLost, on all who are left, where one of `peers` is lost by then and that can be told.
        """


Main = Callable[[Transport], Coroutine[Any, Any, T]]


class World(ABC):
    """What runs one coroutine a rank and gives back what rank 0's returned (None on other ranks)."""

    size: int

    @abstractmethod
    def run(self, main: Main[T]) -> T | None: ...

    @abstractmethod
    def abandon(self, reason: str) -> None:
        """This process leaves without having run: end those who would wait for it."""
