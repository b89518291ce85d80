"""Ranks over MPI: the only module that imports mpi4py."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NoReturn, TypeVar

import numpy as np
import torch
from torch import Tensor

from nnlo.comm.aside import Aside, ThreadTask
from nnlo.comm.base import Channel, Main, Neighbourhood, Send, Source, Task, Transport, World
from nnlo.comm.ending import end_without_mpi
from nnlo.comm.gathered import Gathered
from nnlo.comm.motion import Motion, MpiRequest, Poll
from nnlo.comm.mpi_channel import MpiChannel, MpiGroup
from nnlo.comm.mpi_neighbours import MpiNeighbourhood
from nnlo.comm.node import SMALL, Node, channel_name
from nnlo.comm.patience import Patience, sharpen_timer
from nnlo.comm.shared import SENT, SharedChannel
from nnlo.comm.shared_group import SharedGroup
from nnlo.comm.shared_neighbours import SharedNeighbourhood
from nnlo.errors import LauncherLost, NnloError, OptionsError, PeerLost
from nnlo.logs import note_error

try:
    from mpi4py import MPI as MPI
except (ImportError, RuntimeError) as error:
    raise OptionsError(
        f"no MPI library can be loaded ({str(error).splitlines()[0]}): pip install 'nnlo[mpi]', "
        "or load the MPI module of your cluster"
    ) from None

T = TypeVar("T")

#: Seconds that a launcher gets to pass on what was printed: on an abort it may drop the rest.
LAST_WORDS = 0.2
#: Seconds that a rank waits for each rank before it, so that of several that fail alike one is heard.
TURN_TO_SPEAK, LONGEST_TURN = 0.4, 2.0
#: Seconds that a launcher gets to end this rank: MPICH's Abort returns before it does.
TIME_TO_DIE = 1.0
#: What mpirun --with-ft ulfm sets, and the looks at MPI that let it notice who has died: one of eight does.
SURVIVES, LOOKS = "OMPI_MCA_mpi_ft_enable", 8


def drive(coroutine: Any) -> Any:
    """Run a role to its end, carrying out its effects one by one; what one of them raises, `await` raises there."""
    go_on, value = coroutine.send, None
    while True:
        try:
            effect = go_on(value)
        except StopIteration as stop:
            return stop.value
        try:
            go_on, value = coroutine.send, effect.perform()
        except BaseException as error:
            go_on, value = coroutine.throw, error


class MpiWorld(World):
    """The ranks of an mpi4py communicator; `spin` waits without sleeping, for who has a core a rank.

    transport: one of TRANSPORTS, how ranks of one host exchange.
    """

    def __init__(self, comm: MPI.Intracomm, spin: bool = False, transport: str = "auto") -> None:
        self.comm, self.size, self.spin, self.transport = comm, comm.size, spin, transport

    def open(self) -> MpiTransport:
        """This rank's end of the world; every rank opens its own."""
        sharpen_timer()
        settle(self.comm.Ibarrier())
        comm = self.comm.Dup()
        failures = MpiFailures(comm) if os.environ.get(SURVIVES) == "1" else None
        motion = Motion(node_of(self.comm, self.transport), comm, failures)
        return MpiTransport(comm, tuple(range(self.size)), self.spin, motion)

    def run(self, main: Main[T]) -> T | None:
        transport = self.open()
        try:
            result: T = drive(main(transport))
        except BaseException as error:
            if not getattr(error, "agreed", False):
                self.abort(error)
            self.close(transport)
            raise
        self.close(transport)
        return result if self.comm.rank == 0 else None

    def close(self, transport: MpiTransport) -> None:
        transport.close()
        transport.motion.close()

    def abandon(self, reason: str) -> None:
        print(f"nnlo: rank {self.comm.rank}: {reason}", file=sys.stderr, flush=True)
        abort()

    def abort(self, error: BaseException) -> NoReturn:
        """End the job: the other ranks may be anywhere, so they cannot be asked to leave."""
        if isinstance(error, LauncherLost):  # MPI's way goes over the launcher, and each rank sees for itself
            note_error(str(error))
            os._exit(1)
        time.sleep(min(self.comm.rank * TURN_TO_SPEAK, LONGEST_TURN))
        where = f"nnlo: rank {self.comm.rank} on {MPI.Get_processor_name()}"
        if isinstance(error, KeyboardInterrupt):
            text = "nnlo: interrupted: all ranks end, and the weights are lost"
        elif isinstance(error, NnloError):
            text = f"{where}: {error}"
        else:
            text = f"{where} failed:\n{''.join(traceback.format_exception(error))}"
        note_error(text)
        print(text, file=sys.stderr, flush=True)
        abort()


class MpiFailures:
    """What Open MPI's ULFM knows of the ranks of `comm` that have died."""

    error = MPI.Exception

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._comm, self._group = comm, comm.Get_group()

    def found(self) -> list[int]:
        for _ in range(LOOKS):
            self._comm.Iprobe(self._comm.rank)  # of anybody it would complain of the dead
        failed = self._comm.Get_failed()
        return failed.Translate_ranks(None, self._group) if failed.size else []


def abort() -> NoReturn:
    """End all ranks with exit code 1."""
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(LAST_WORDS)
    MPI.COMM_WORLD.Abort(1)
    time.sleep(TIME_TO_DIE)
    os._exit(1)


#: Requests that nobody waits for any more, and the memory that MPI may still write.
ABANDONED: list[tuple[MPI.Request, tuple[object, ...]]] = []


def settle(request: MPI.Request, check: Callable[[], None] = lambda: None, memory: tuple[object, ...] = ()) -> None:
    """Wait for a request, giving the core away meanwhile; `check` is called in between, and may raise."""
    patience = Patience(spin=False)
    try:
        while not request.Test():
            patience.pause()
            check()
    except NnloError:
        ABANDONED.append((request, memory))
        raise


def gathered(comm: MPI.Intracomm, data: bytes, check: Callable[[], None]) -> list[bytes]:
    """Everyone's bytes, in the order of the communicator."""
    size, sizes = np.array([len(data)], dtype=np.int64), np.empty(comm.size, dtype=np.int64)
    settle(comm.Iallgather(size, sizes), check, (size, sizes))
    mine, everything = np.frombuffer(data, np.uint8), np.empty(int(sizes.sum()), dtype=np.uint8)
    settle(comm.Iallgatherv([mine, MPI.BYTE], [everything, sizes.tolist(), MPI.BYTE]), check, (mine, everything))
    return [part.tobytes() for part in np.split(everything, np.cumsum(sizes)[:-1])]


def node_of(comm: MPI.Intracomm, transport: str) -> Node | None:
    """This rank among those of its host, where `transport` wants that, and all of them can reach one another.

    Raises OptionsError on all ranks alike where it has to be and cannot.
    """
    if transport == "mpi":
        return None
    host = comm.Split_type(MPI.COMM_TYPE_SHARED)
    peers, token = host.allgather(comm.rank), host.bcast(os.urandom(8).hex())
    alone = len(peers) == 1
    node = None if alone else made_node(token, comm.rank, frozenset(peers))
    host.Barrier()
    reached = host.allreduce(int(alone or (node is not None and node.reaches(peers[0]))), MPI.MIN)
    host.Free()
    if node is not None and not reached:
        node.close()
        node = None
    if not comm.allreduce(reached, MPI.MIN) and transport == "shm":
        fault = OptionsError("--transport shm: the ranks of a host cannot share memory here: give --transport auto")
        fault.agreed = True
        raise fault
    return node


def made_node(token: str, rank: int, peers: frozenset[int]) -> Node | None:
    """None where this system, or what it lets a process do, does not have what that takes."""
    try:
        node = Node(token, rank, peers)
        node.storage(1)
    except (OSError, AttributeError):
        return None
    return node


class MpiTransport(Transport):
    """`name` of the group is the same on all its ranks."""

    def __init__(
        self,
        comm: MPI.Intracomm,
        peers: tuple[int, ...],
        spin: bool,
        motion: Motion,
        name: tuple[object, ...] = (),
    ) -> None:
        self.comm, self.peers, self.spin = comm, peers, spin
        self.id = peers[comm.rank]
        self.motion, self.name = motion, name
        self._aside = Aside()
        self._channels: list[MpiChannel] = []
        self._groups: list[MpiTransport] = []
        self._graphs: list[MpiNeighbourhood] = []
        self._splits = 0

    def clock(self) -> float:
        return self.motion.clock()

    def storage(self, nbytes: int) -> Tensor:
        node = self.motion.node
        return torch.zeros(nbytes, dtype=torch.uint8) if node is None or nbytes <= SMALL else node.storage(nbytes)

    @property
    def shares(self) -> bool:
        return isinstance(self._collectives, SharedGroup)

    async def common(self, nbytes: int) -> Tensor:
        assert isinstance(self._collectives, SharedGroup)
        common = self._collectives.common(nbytes)
        await self.wait([common])
        return common.memory

    def channel(self, peer: int, tag: int, nbytes: int) -> Channel:
        node = self.motion.node
        if node is not None and peer in node.peers:
            name = channel_name(self.name, min(self.id, peer), max(self.id, peer), tag)
            return SharedChannel(node, self, peer, name, nbytes)
        channel = MpiChannel(self, peer, tag, nbytes)
        self._channels.append(channel)
        self.motion.channels.append(channel)
        return channel

    async def compute(self, work: Callable[[], T], samples: int) -> T:
        return work()

    def offload(self, work: Callable[[], T], name: str, samples: int = 0) -> Task[T]:
        future = self._aside.submit(self.trace.timed(work, name, samples), name)
        if self.motion.node is not None:
            future.add_done_callback(self.motion.wake)
        return ThreadTask(future, rings=self.motion.node is not None)

    async def wait(self, sources: Sequence[Source], deadline: float | None = None) -> list[Source]:
        return await Poll(self.motion, self.spin, sources, deadline)

    def progress(self) -> None:
        self.motion.progress()

    def start_send(self, memory: Any, peer: int, tag: int, until_taken: bool = False) -> Send:
        if peer in self.motion.watch.lost:
            return SENT
        start = self.comm.Issend if until_taken else self.comm.Isend
        return self.motion.begin(MpiRequest(start([memory, MPI.BYTE], self.peers.index(peer), tag)))

    @cached_property
    def _collectives(self) -> SharedGroup | MpiGroup:
        """By shared memory where the whole group is on this rank's node."""
        node = self.motion.node
        if node is not None and node.peers.issuperset(self.peers):
            return SharedGroup(node, self.peers, self.name)
        return MpiGroup(self.comm, self.peers, self.motion, MPI.IN_PLACE)

    def allreduce(self, memory: Tensor) -> Source:
        return self._collectives.allreduce(memory)

    def gather_all(self, mine: Tensor, everyone: Tensor) -> Source:
        return self._collectives.gather_all(mine, everyone)

    def broadcast(self, memory: Tensor, root: int) -> Source:
        return self._collectives.broadcast(memory, root)

    def neighbourhood(self, heard: Sequence[int], hearers: Sequence[int], nbytes: int) -> Neighbourhood:
        collectives = self._collectives
        if isinstance(collectives, SharedGroup):
            return SharedNeighbourhood(collectives, heard)
        graph: Any = self.comm.Create_dist_graph_adjacent(list(heard), list(hearers))
        self._graphs.append(MpiNeighbourhood(graph, frozenset(self.peers), self.motion, len(heard), nbytes))
        return self._graphs[-1]

    async def allgather(self, data: bytes) -> list[bytes]:
        if self.motion.watch.failures:
            return Gathered(self).of(data)
        return gathered(self.comm, data, self.motion.watch.check)

    async def split(self, color: int | None) -> Transport | None:
        self._splits += 1
        colors = await self.allgather(str(color).encode())
        group: Any = self.comm.Split(MPI.UNDEFINED if color is None else color, self.comm.rank)
        if color is None:
            return None
        mine = str(color).encode()
        peers = tuple(peer for peer, given in zip(self.peers, colors, strict=True) if given == mine)
        name = (*self.name, self._splits, color)
        self._groups.append(MpiTransport(group, peers, self.spin, self.motion, name))
        return self._groups[-1]

    async def perish(self, reason: str) -> NoReturn:
        text = f"nnlo: rank {self.id} on {MPI.Get_processor_name()} ends: {reason}"
        note_error(text)
        print(text, file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("the dead go on")

    async def regroup(self, peers: tuple[int, ...]) -> Transport:
        self._collectives.give_up()
        for one in self._graphs:
            one.give_up()
        comm: Any = self.comm.Shrink()
        ranks = comm.Get_group().Translate_ranks(None, self.comm.Get_group())
        found = tuple(self.peers[rank] for rank in ranks)
        if missing := set(peers).difference(found):
            raise PeerLost(min(missing))
        self._groups.append(MpiTransport(comm, found, self.spin, self.motion, (*self.name, "left", *found)))
        return self._groups[-1]

    def comms(self) -> list[MPI.Intracomm]:
        """Those of this group and of all that were made of it."""
        graphs = (one.graph for one in self._graphs)
        return [self.comm, *graphs, *(comm for group in self._groups for comm in group.comms())]

    def discard(self) -> None:
        """Give everything back as it is, where nothing more is going to come; every rank of the group does it."""
        self._aside.close()
        for group in self._groups:
            group.discard()
        for channel in self._channels:
            if channel.posted:
                channel.request.Cancel()
                channel.request.Wait()
            channel.request.Free()
        if not self.motion.watch.lost:
            for one in self._graphs:
                one.graph.Free()
            self.comm.Free()

    def close(self) -> None:
        """See the last messages out and give everything back; every rank of the group does it."""
        self._aside.close()
        for group in self._groups:
            group.close()
        gathered = Gathered(self)
        gathered.see_all_out()
        if self.motion.watch.failures:
            if not self.name:
                gathered.leave()
                end_without_mpi()
            return
        settle(self.comm.Ibarrier())
        for channel in self._channels:
            channel.request.Free()
        for one in self._graphs:
            one.graph.Free()
        self.comm.Free()
