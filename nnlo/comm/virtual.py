"""Any number of ranks in one process on a virtual clock: same seed, same result, to the last bit.

Every rank is a coroutine. What it computes is computed for real; how long that takes, and how long
messages travel, is what `Costs` says. `Fault`s strike at a chosen rank and step.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
from torch import Tensor

from nnlo.comm.base import Effect, Main, Source, Transport, World
from nnlo.comm.costs import Costs, Fault, FaultInjected, FaultKind, Host
from nnlo.comm.cpu import Cpu, Debt
from nnlo.comm.streams import RandomStates, one_torch_thread
from nnlo.comm.virtual_links import Links
from nnlo.errors import PeerLost, ProtocolError

if TYPE_CHECKING:
    from nnlo.comm.virtual_collective import Collective, Part
    from nnlo.comm.virtual_neighbours import Ear, VirtualNeighbourhood
    from nnlo.comm.virtual_transport import VirtualChannel

T = TypeVar("T")
Action: TypeAlias = Callable[[], None]


class Wait(Effect[list[Source]]):
    def __init__(self, sources: Sequence[Source], deadline: float | None) -> None:
        self.sources, self.deadline = sources, deadline

    def ready(self) -> list[Source]:
        """Raises PeerLost where one never will be."""
        return [source for source in self.sources if source.ready]

    @property
    def over(self) -> bool:
        """Whether there is nothing more to wait for."""
        try:
            return bool(self.ready())
        except PeerLost:
            return True


@dataclass
class Delay(Effect[None]):
    """Keep the rank's core busy for so long."""

    seconds: float


@dataclass
class Meet(Effect[list[bytes]]):
    """Give `data` to the group, get everyone's."""

    group: Group
    data: bytes


@dataclass
class Group:
    """Ranks that meet; `met` counts how often they did. Their collectives fill their links until `busy`.

    `common`: memory that all of them have, by the meeting that it was handed out at.
    """

    key: tuple[Any, ...]
    peers: tuple[int, ...]
    given: dict[int, bytes] = field(default_factory=dict)
    met: int = 0
    busy: float = 0.0
    common: dict[int, Tensor] = field(default_factory=dict)


@dataclass
class Process:
    """One rank: its coroutine, what it waits for, and what it owes its core for messages."""

    id: int
    cpu: Cpu
    stream: np.random.Generator
    coroutine: Coroutine[Any, Any, Any] | None = None
    waiting: Effect[Any] | None = None
    result: Any = None
    steps: int = 0
    alarm: float = math.inf
    alive: bool = True

    def __post_init__(self) -> None:
        self.debt = Debt(self.cpu)


class VirtualWorld(World):
    """`size` ranks on `hosts` (default: a host with one core for each) at `costs`, struck by `faults`."""

    def __init__(
        self,
        size: int,
        *,
        hosts: Sequence[Host] | None = None,
        costs: Costs | None = None,
        faults: Sequence[Fault] = (),
        seed: int = 0,
    ) -> None:
        self.size, self.costs = size, costs or Costs()
        self.hosts = list(hosts or [Host((i,)) for i in range(size)])
        self.host_of = {peer: index for index, host in enumerate(self.hosts) for peer in host.ranks}
        if sorted(peer for host in self.hosts for peer in host.ranks) != list(range(size)):
            raise ValueError(f"the hosts must hold the ranks 0 to {size - 1}, each once")
        self.faults = {(fault.peer, fault.step): fault for fault in faults}
        self.seed = seed
        self._begin()

    def _begin(self) -> None:
        self.time = 0.0
        self._events: list[tuple[float, int, Action]] = []
        self._order = itertools.count()
        self.groups: dict[tuple[Any, ...], Group] = {}
        self.endpoints: dict[tuple[Any, ...], VirtualChannel | Ear] = {}
        self.undelivered: dict[tuple[Any, ...], deque[tuple[Tensor, Action]]] = {}
        self.collectives: dict[tuple[Any, ...], Collective] = {}
        self.neighbourhoods: list[VirtualNeighbourhood] = []
        self.lost: set[int] = set()
        self._links = Links(self.costs)
        cpus = [Cpu(host.cores, self.now, self.at) for host in self.hosts]
        streams = np.random.SeedSequence(self.seed).spawn(self.size)
        self.processes = [
            Process(i, cpus[self.host_of[i]], np.random.default_rng(streams[i])) for i in range(self.size)
        ]

    # The clock.

    def now(self) -> float:
        return self.time

    def at(self, time: float, action: Action) -> None:
        heapq.heappush(self._events, (time, next(self._order), action))

    def _next_event(self) -> Action | None:
        """Move the clock to the next event; None where nothing is left to happen."""
        if not self._events:
            return None
        self.time, _, action = heapq.heappop(self._events)
        return action

    # Running.

    def run(self, main: Main[T]) -> T | None:
        self._begin()
        everyone = self.group((), tuple(range(self.size)))
        with self._streams() as self._random, self._threads():
            try:
                for process in self.processes:
                    process.coroutine = main(self._transport(process, everyone))
                    self.at(0.0, partial(self._resume, process, None))
                self._loop()
            finally:
                for process in self.processes:
                    if process.coroutine is not None:
                        process.coroutine.close()
        return self.processes[0].result  # type: ignore[no-any-return]

    def _streams(self) -> RandomStates:
        """Random streams of the ranks' own."""
        return RandomStates()

    def _threads(self) -> AbstractContextManager[None]:
        """One torch thread while the ranks run: the last bits depend on how many there are."""
        return one_torch_thread()

    def abandon(self, reason: str) -> None:
        """All ranks are in this process: nobody is left waiting."""

    def _transport(self, process: Process, group: Group) -> Transport:
        from nnlo.comm.virtual_transport import VirtualTransport

        return VirtualTransport(self, process, group)

    def _loop(self) -> None:
        while any(process.alive for process in self.processes):
            action = self._next_event()
            if action is None:
                stuck = ", ".join(str(process.id) for process in self.processes if process.alive)
                raise ProtocolError(f"ranks {stuck} wait for what never comes")
            action()

    def _resume(self, process: Process, value: Any, error: Exception | None = None) -> None:
        if not process.alive or process.coroutine is None:
            return
        process.waiting = None
        with self._random.of(process.id):
            try:
                effect = process.coroutine.throw(error) if error else process.coroutine.send(value)
            except StopIteration as stop:
                process.result, process.alive = stop.value, False
                return
        if process.alive:
            process.debt.pay(partial(self._begin_effect, process, effect))

    def _begin_effect(self, process: Process, effect: Effect[Any]) -> None:
        process.waiting = effect
        if isinstance(effect, Delay):
            process.cpu.run(effect.seconds, partial(self._resume, process, None))
        elif isinstance(effect, Meet):
            self._meet(process, effect)
        elif isinstance(effect, Wait):
            if effect.over:
                self.at(self.now(), partial(self._wake, process, effect))
            elif effect.deadline is not None:
                self._set_alarm(process, effect.deadline)

    def _set_alarm(self, process: Process, deadline: float) -> None:
        """One for each rank: most waits end long before their deadlines, and the next one has another."""
        if deadline < process.alarm:
            process.alarm = deadline
            self.at(max(self.now(), deadline), partial(self._ring, process))

    def _ring(self, process: Process) -> None:
        process.alarm = math.inf
        wait = process.waiting
        if not isinstance(wait, Wait) or wait.deadline is None:
            return
        if wait.deadline <= self.now():
            self._wake(process, wait)
        else:
            self._set_alarm(process, wait.deadline)

    def _wake(self, process: Process, wait: Wait) -> None:
        """End that wait, unless it has ended already."""
        if process.waiting is not wait:
            return
        try:
            value, error = wait.ready(), None
        except PeerLost as lost:
            value, error = [], lost
        self._resume(process, value, error)

    def notify(self, process: Process, source: Source) -> None:
        """Tell a rank that a source got ready."""
        wait = process.waiting
        if isinstance(wait, Wait) and source in wait.sources:
            self.at(self.now(), partial(self._wake, process, wait))

    # Groups.

    def group(self, key: tuple[Any, ...], peers: tuple[int, ...]) -> Group:
        return self.groups.setdefault(key, Group(key, peers))

    def _meet(self, process: Process, meet: Meet) -> None:
        meet.group.given[process.id] = meet.data
        self._close_meeting(meet.group)

    def _close_meeting(self, group: Group) -> None:
        """Once all who live have given, give everything to everyone."""
        if len(group.given) + len(self.lost) < len(group.peers):
            return
        present = [peer for peer in group.peers if peer in group.given]
        if not present or not self.lost.issuperset(set(group.peers).difference(present)):
            return
        everything = [group.given[peer] for peer in present]
        group.given, group.met = {}, group.met + 1
        for peer in present:
            self.at(self.now() + self.costs.latency, partial(self._resume, self.processes[peer], everything))

    # Collectives.

    def join(self, collective: Collective, process: Process, memory: Sequence[Tensor], source: Part) -> None:
        """A rank takes part in a collective, which `key` names; it goes on once all do."""
        shared = self.collectives.setdefault(collective.key, collective)
        if collective.what != shared.what:
            raise ProtocolError(f"rank {process.id} starts {collective.what} where others start {shared.what}")
        shared.parts[process.id] = (memory, process, source)
        self._close_collective(shared)

    def _close_collective(self, collective: Collective) -> None:
        """Once all take part it is done; nobody begins one, or waits for others to, with whom it knows to be dead."""
        if lost := self.lost.intersection(collective.group.peers):
            for _, process, source in collective.parts.values():
                source.lose(min(lost), self, process)
        if lost or collective.left or len(collective.parts) < len(collective.group.peers):
            return
        present = [collective.parts[peer] for peer in collective.group.peers]
        collective.left = len(present)
        collective.work([memory for memory, _, _ in present])
        end = collective.ends(self.now(), self.costs, len({self.host_of[p] for p in collective.group.peers}) == 1)
        for _, process, source in present:
            late = self.costs.spread and self.costs.spread * process.stream.random()
            self.at(end + late, partial(self._finish, collective, process, source))

    def _finish(self, collective: Collective, process: Process, source: Part) -> None:
        """A rank is done with a collective, unless one has died from whom it still hears in that."""
        if not collective.torn:
            source.finish(self, process)
        collective.left -= 1
        if not (collective.left or collective.torn):
            del self.collectives[collective.key]

    # Messages.

    def deliver(
        self, key: tuple[Any, ...], source: int, peer: int, message: Tensor, sent: Action, taken: Action
    ) -> None:
        """Carry a message over the links: `sent` is called when it has left, `taken` when the peer had room for it.

        The channel is told when it is there.
        """
        hosts = self.host_of[source], self.host_of[peer]
        left, arrived = self._links.carry(key, *hosts, message.numel(), self.now())
        self.at(left, sent)
        self.at(arrived, partial(self._arrive, key, message, taken))

    def _arrive(self, key: tuple[Any, ...], message: Tensor, taken: Action) -> None:
        self.undelivered.setdefault(key, deque()).append((message, taken))
        if key in self.endpoints:
            self.endpoints[key].collect()

    # Faults.

    def strike(self, process: Process) -> float:
        """Apply the fault due at this computation of a rank; returns the seconds that it adds."""
        fault = self.faults.get((process.id, process.steps))
        process.steps += 1
        if fault is None:
            return 0.0
        if fault.kind is FaultKind.RAISE:
            raise FaultInjected(f"rank {process.id} fails at step {fault.step}")
        if fault.kind is FaultKind.DIE:
            if fault.seconds:
                self.at(self.now() + fault.seconds, partial(self.die, process))
            else:
                self.die(process)
            return 0.0
        return fault.seconds

    def die(self, process: Process) -> None:
        """That rank is gone, which its peers have not noticed yet."""
        if not process.alive:
            return
        process.alive = False
        for collective in self.collectives.values():
            collective.torn |= process.id in collective.parts and collective.left > 0
        process.debt.pay(lambda: self.at(self.now() + self.costs.notice, partial(self._lose, process.id)))

    def _lose(self, peer: int) -> None:
        self.lost.add(peer)
        for channel in self.endpoints.values():
            if channel.peer == peer:
                channel.lose()
        for neighbourhood in self.neighbourhoods:
            neighbourhood.lose(peer)
        for group in self.groups.values():
            self._close_meeting(group)
        for collective in list(self.collectives.values()):
            self._close_collective(collective)
