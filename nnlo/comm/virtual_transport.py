"""One virtual rank's end: its channels, its work aside and how it computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from nnlo.comm.base import Channel, Neighbourhood, Send, Source, Task, Transport
from nnlo.comm.messages import Header
from nnlo.comm.virtual import Delay, Group, Meet, Process, VirtualWorld, Wait
from nnlo.comm.virtual_collective import (
    Collective,
    Done,
    Memories,
    Part,
    add_up,
    hand_out,
    pass_round,
    ring_allreduce,
    ring_gather,
    tree_broadcast,
)
from nnlo.comm.virtual_neighbours import VirtualNeighbourhood, nothing
from nnlo.errors import PeerLost, ProtocolError

T = TypeVar("T")


class VirtualTransport(Transport):
    def __init__(self, world: VirtualWorld, process: Process, group: Group) -> None:
        self.world, self.process, self.group = world, process, group
        self.id, self.peers = process.id, group.peers
        self._queues: dict[str, deque[VirtualTask[Any]]] = {}
        self._collectives = self._neighbourhoods = 0

    def clock(self) -> float:
        return self.world.now()

    def storage(self, nbytes: int) -> Tensor:
        return torch.zeros(nbytes, dtype=torch.uint8)

    @property
    def shares(self) -> bool:
        return len({self.world.host_of[peer] for peer in self.peers}) == 1

    async def common(self, nbytes: int) -> Tensor:
        turn, common = self.group.met, self.group.common
        if turn not in common:
            common[turn] = self.storage(nbytes)
        await self.allgather(b"")
        return common[turn]

    def channel(self, peer: int, tag: int, nbytes: int) -> Channel:
        return VirtualChannel(self, peer, tag, nbytes)

    async def compute(self, work: Callable[[], T], samples: int) -> T:
        extra = self.world.strike(self.process)
        result = work()
        await Delay(extra + self.world.costs.compute_seconds(self.id, samples, self.process.stream))
        return result

    def offload(self, work: Callable[[], T], name: str, samples: int = 0) -> Task[T]:
        task = VirtualTask(work, name, samples, self)
        queue = self._queues.setdefault(name, deque())
        queue.append(task)
        if len(queue) == 1:
            task.begin(queue)
        return task

    async def wait(self, sources: Sequence[Source], deadline: float | None = None) -> list[Source]:
        return await Wait(sources, deadline)

    def allreduce(self, memory: Tensor) -> Source:
        return self._collective("an allreduce", [memory], add_up, ring_allreduce(self.size, memory.nbytes))

    def gather_all(self, mine: Tensor, everyone: Tensor) -> Source:
        return self._collective("a gathering", [mine, everyone], pass_round, ring_gather(self.size, mine.nbytes))

    def broadcast(self, memory: Tensor, root: int) -> Source:
        return self._collective(
            f"a broadcast from {root}", [memory], hand_out(root), tree_broadcast(self.size, memory.nbytes)
        )

    def _collective(
        self, kind: str, memory: Sequence[Tensor], work: Callable[[Memories], None], cost: tuple[int, float]
    ) -> Source:
        """Take part in this rank's next collective of the group."""
        self._collectives += 1
        source, what = Part(), f"{kind} of {memory[0].numel()} {memory[0].dtype}"
        collective = Collective((*self.group.key, self._collectives), self.group, what, work, *cost)
        self.process.debt.pay(partial(self.world.join, collective, self.process, memory, source))
        return source

    def neighbourhood(self, heard: Sequence[int], hearers: Sequence[int], nbytes: int) -> Neighbourhood:
        self._neighbourhoods += 1
        return VirtualNeighbourhood(self, heard, hearers, nbytes, self._neighbourhoods)

    def pay_for(self, message: Tensor, times: int = 1) -> None:
        """Owe what it takes to send or to take this message so many times."""
        self.process.debt.add(times * self.world.costs.handling_seconds(self.id, message))

    async def allgather(self, data: bytes) -> list[bytes]:
        return await Meet(self.group, data)

    async def split(self, color: int | None) -> Transport | None:
        turn = self.group.met
        colors = await self.allgather(str(color).encode())
        if color is None:
            return None
        peers = tuple(peer for peer, given in zip(self.peers, colors, strict=True) if given == str(color).encode())
        group = self.world.group((*self.group.key, turn, color), peers)
        return type(self)(self.world, self.process, group)

    async def perish(self, reason: str) -> NoReturn:
        self.world.die(self.process)
        await Wait([], None)
        raise AssertionError("the dead are not woken")

    async def regroup(self, peers: tuple[int, ...]) -> Transport:
        return type(self)(self.world, self.process, self.world.group((*self.group.key, "left", *peers), peers))


class VirtualTask(Task[T]):
    """Work done at once for real; its result is there when its time has passed on the host's cores."""

    def __init__(self, work: Callable[[], T], name: str, samples: int, transport: VirtualTransport) -> None:
        self._name, self._samples, self._transport, self._done = name, samples, transport, False
        self._seconds = transport.world.costs.offload * samples
        self._value: T | None = None
        self._error: Exception | None = None
        try:
            self._value = work()
        except Exception as error:
            self._error = error

    def begin(self, queue: deque[VirtualTask[Any]]) -> None:
        self._began = self._transport.trace.now()
        if self._seconds == 0.0:
            self._end(queue)
        else:
            self._transport.process.cpu.run(self._seconds, partial(self._end, queue))

    def _end(self, queue: deque[VirtualTask[Any]]) -> None:
        self._done = True
        self._transport.trace.add(self._name, self._began, self._samples)
        queue.popleft()
        self._transport.world.notify(self._transport.process, self)
        if queue:
            queue[0].begin(queue)

    @property
    def ready(self) -> bool:
        return self._done

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


class VirtualChannel(Channel):
    def __init__(self, transport: VirtualTransport, peer: int, tag: int, nbytes: int) -> None:
        super().__init__(transport, peer, nbytes)
        self._transport = transport
        self._posted = self._arrived = self._lost = False
        key = transport.group.key
        self._here, self._there = (key, peer, transport.id, tag), (key, transport.id, peer, tag)
        if self._here in transport.world.endpoints:
            raise ProtocolError(f"rank {transport.id} opens its channel {tag} to rank {peer} twice")
        transport.world.endpoints[self._here] = self

    @property
    def ready(self) -> bool:
        return self._arrived or self._lost

    def post(self) -> None:
        self._posted = True
        self.collect()

    def collect(self) -> None:
        """Take the oldest message that is there, if room was made for it."""
        waiting = self._transport.world.undelivered.get(self._here)
        if self._posted and waiting:
            message, taken = waiting.popleft()
            self.incoming[: message.numel()].copy_(message)
            self._posted, self._arrived = False, True
            self._transport.world.notify(self._transport.process, self)
            taken()

    def lose(self) -> None:
        self._lost = True
        self._transport.world.notify(self._transport.process, self)

    def take(self) -> Header:
        if not self._arrived and self._lost:
            raise PeerLost(self.peer)
        if not self._arrived:
            raise ProtocolError(f"no message from rank {self.peer} to take")
        self._arrived = False
        header = Header.read(self.incoming.numpy().data)
        self._handle(self.incoming[: header.nbytes])
        return header

    def send_written(self, memory: Tensor, nbytes: int, until_taken: bool = False) -> Send:
        """What is sent is what was there now; it leaves once what is owed has been paid."""
        send, message = Done(), memory[:nbytes].clone()
        world, process = self._transport.world, self._transport.process
        finish = partial(send.finish, world, process)
        left, taken = (nothing, finish) if until_taken else (finish, nothing)
        self._handle(message)
        process.debt.pay(partial(world.deliver, self._there, process.id, self.peer, message, left, taken))
        return send

    def _handle(self, message: Tensor) -> None:
        self._transport.pay_for(message)
