"""Collectives among ranks of one host, through memory that all of them have mapped.

The collectives of a group are numbered as they start, alike on all ranks. Each rank lays what it has where the others
can read it, and shows them where. A vector to be summed is cut into as many slices as there are ranks: once all have
shown theirs, each rank sums one slice, in the order of the ranks, and shows the sum; once all have, everyone copies the
sums. So all ranks have the same bits, and each element is read and written but a few times.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict, deque
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from nnlo.comm.base import Exchange, Source
from nnlo.comm.link import RING, SHOWN, SUMMED
from nnlo.comm.node import Node, collective_name
from nnlo.comm.segments import Bytes
from nnlo.errors import PeerLost, ProtocolError
from nnlo.flat import ALIGNMENT

#: A message names a collective and, in the higher bits, how many its sender has finished from the first on.
NUMBER_BITS = 32
NUMBER = (1 << NUMBER_BITS) - 1


class Voice:
    """What rank `place` of the group says."""

    def __init__(self, group: SharedGroup, place: int) -> None:
        self._group, self._place = group, place

    def opened(self, memory: Bytes) -> None:
        raise ProtocolError("a group's ranks open no inbox")

    def rung(self, kind: int, payload: Bytes, nbytes: int) -> None:
        self._group.heard(self._place, kind, payload, nbytes & NUMBER, nbytes >> NUMBER_BITS)

    def lost(self) -> None:
        self._group.lost.append(self._group.peers[self._place])


class SharedGroup:
    """One rank's end of a group of `peers`, all of the node; `name` is the same on all."""

    def __init__(self, node: Node, peers: Sequence[int], name: tuple[object, ...]) -> None:
        self.node, self.size, self.rank = node, len(peers), peers.index(node.rank)
        self.peers = tuple(peers)
        self.lost: list[int] = []
        self._name = collective_name(name, node.rank)
        self._links = [node.link(peer) for peer in peers if peer != node.rank]
        self._started = 0
        self._under_way: dict[int, Collective] = {}
        self._shown: defaultdict[int, dict[tuple[int, int], Bytes]] = defaultdict(dict)
        self._finished_by = [0] * self.size
        self._lent: deque[tuple[int, Tensor]] = deque()
        self._free: defaultdict[int, list[Tensor]] = defaultdict(list)
        for place, peer in enumerate(peers):
            if place != self.rank:
                node.listen(collective_name(name, peer), Voice(self, place), peer)

    def allreduce(self, memory: Tensor) -> Source:
        return self._begin(Sum(self, self._started, memory))

    def gather_all(self, mine: Tensor, everyone: Tensor) -> Source:
        return self._begin(Gathering(self, self._started, mine, everyone))

    def broadcast(self, memory: Tensor, root: int) -> Source:
        return self._begin(Broadcast(self, self._started, memory, root))

    def neighbours(self, mine: Tensor, heard: Sequence[int]) -> Neighbours:
        """What each of those, by their places, has as `mine`."""
        neighbours = Neighbours(self, self._started, mine, heard)
        self._begin(neighbours)
        return neighbours

    def common(self, nbytes: int) -> Common:
        """Memory of the first rank's that all have: `memory` of what this gives, once it is ready."""
        common = Common(self, self._started, nbytes)
        self._begin(common)
        return common

    def _begin(self, collective: Collective) -> Source:
        self._under_way[collective.number] = collective
        self._started += 1
        collective.start()
        self._advance(collective)
        return collective

    def give_up(self) -> None:
        """What is under way touches no memory any more."""
        self._under_way.clear()

    def heard(self, place: int, kind: int, memory: Bytes, number: int, finished: int) -> None:
        """Rank `place` shows memory that belongs to a collective, and has finished all before number `finished`."""
        self._finished_by[place] = finished
        if number in self._under_way or number >= self._started:  # else it was done without that
            self._shown[number][kind, place] = memory
        if number in self._under_way:
            self._advance(self._under_way[number])

    def _advance(self, collective: Collective) -> None:
        collective.advance()
        if collective.ready:
            del self._under_way[collective.number]
            self._shown.pop(collective.number, None)

    @property
    def _finished(self) -> int:
        """How many are done before the first that is not: later ones may be done sooner."""
        return min(self._under_way, default=self._started)

    def shown(self, kind: int, number: int) -> dict[int, Bytes]:
        """What others have shown of a collective, by their places."""
        return {place: memory for (of_kind, place), memory in self._shown[number].items() if of_kind == kind}

    def show(self, kind: int, number: int, memory: Tensor) -> None:
        """Tell all others where to read."""
        found = self.node.segments.find(memory)
        assert found is not None
        segment, start = found
        words = RING.pack(kind, self._name, segment.number, start, self._finished << NUMBER_BITS | number)
        for link in self._links:
            link.say(words, segment)

    def lend(self, number: int, like: Tensor) -> Tensor:
        """Memory of that type and shape that others can read until they have finished the collective."""
        self._finished_by[self.rank] = self._finished
        while self._lent and self._lent[0][0] < min(self._finished_by):
            memory = self._lent.popleft()[1]
            self._free[len(memory)].append(memory)
        nbytes = max(ALIGNMENT, like.nbytes)
        memory = self._free[nbytes].pop() if self._free[nbytes] else self.node.storage(nbytes)
        self._lent.append((number, memory))
        return memory[: like.nbytes].view(like.dtype).view(like.shape)


class Collective(Source):
    """Number `number` of a group's."""

    rings = True

    def __init__(self, group: SharedGroup, number: int) -> None:
        self.group, self.number, self._done = group, number, False

    @property
    def ready(self) -> bool:
        if self.group.lost and not self._done:
            raise PeerLost(self.group.lost[0])
        return self._done

    def lay_out(self, memory: Tensor) -> None:
        """Show a copy of it."""
        copy = self.group.lend(self.number, memory)
        copy.copy_(memory)
        self.group.show(SHOWN, self.number, copy)

    def shown(self, kind: int) -> dict[int, Bytes]:
        return self.group.shown(kind, self.number)

    @abstractmethod
    def start(self) -> None:
        """Show what this rank has."""

    @abstractmethod
    def advance(self) -> None:
        """Do what can be done with what the others have shown."""


class Sum(Collective):
    """`memory` becomes the sum over the group."""

    def __init__(self, group: SharedGroup, number: int, memory: Tensor) -> None:
        super().__init__(group, number)
        self._memory = memory
        self._summed: Tensor | None = None
        self._slices = [slice(*bounds) for bounds in slices(memory.numel(), group.size)]

    def start(self) -> None:
        if self.group.node.segments.find(self._memory) is None:
            self.lay_out(self._memory)
        else:
            self.group.show(SHOWN, self.number, self._memory)

    def advance(self) -> None:
        everyone = self.group.size - 1
        if self._summed is None and len(shown := self.shown(SHOWN)) == everyone:
            self._summed = self._sum({place: like(memory, self._memory) for place, memory in shown.items()})
            self.group.show(SUMMED, self.number, self._summed)
        if self._summed is not None and len(sums := self.shown(SUMMED)) == everyone:
            self._memory[self._slices[self.group.rank]].copy_(self._summed)
            for place, memory in sums.items():
                own = self._memory[self._slices[place]]
                own.copy_(like(memory, own))
            self._done = True

    def _sum(self, shown: dict[int, Tensor]) -> Tensor:
        own = self._slices[self.group.rank]
        parts = [shown.get(place, self._memory)[own] for place in range(self.group.size)]
        summed = self.group.lend(self.number, parts[0])
        if len(parts) == 1:
            return summed.copy_(parts[0])
        torch.add(parts[0], parts[1], out=summed)
        for part in parts[2:]:
            summed.add_(part)
        return summed


class Gathering(Collective):
    """Row by row, `everyone` becomes what each rank has as `mine`."""

    def __init__(self, group: SharedGroup, number: int, mine: Tensor, everyone: Tensor) -> None:
        super().__init__(group, number)
        self._mine, self._everyone = mine, everyone

    def start(self) -> None:
        self.lay_out(self._mine)

    def advance(self) -> None:
        if len(shown := self.shown(SHOWN)) == self.group.size - 1:
            self._everyone[self.group.rank].copy_(self._mine)
            for place, memory in shown.items():
                self._everyone[place].copy_(like(memory, self._mine))
            self._done = True


class Neighbours(Collective, Exchange):
    """The values are read where the others laid them out, which is theirs again once this rank tells them more."""

    def __init__(self, group: SharedGroup, number: int, mine: Tensor, heard: Sequence[int]) -> None:
        super().__init__(group, number)
        self._mine, self._heard = mine, heard
        self._values: list[Tensor] = []

    def start(self) -> None:
        self.lay_out(self._mine)

    def advance(self) -> None:
        shown = self.shown(SHOWN)
        if not self._done and all(place in shown for place in self._heard):
            self._values = [like(shown[place], self._mine) for place in self._heard]
            self._done = True

    def values(self) -> list[Tensor]:
        return self._values


class Broadcast(Collective):
    """`memory` becomes that of rank `root`."""

    def __init__(self, group: SharedGroup, number: int, memory: Tensor, root: int) -> None:
        super().__init__(group, number)
        self._memory, self._root = memory, root

    def start(self) -> None:
        if self._root == self.group.rank:
            self.lay_out(self._memory)
            self._done = True

    def advance(self) -> None:
        if not self._done and self._root in (shown := self.shown(SHOWN)):
            self._memory.copy_(like(shown[self._root], self._memory))
            self._done = True


class Common(Collective):
    """`memory`, uint8 of shape (nbytes,), is the first rank's, for all to read and write for as long as they like.

    The others show something too: whoever has heard them all has come through to them.
    """

    def __init__(self, group: SharedGroup, number: int, nbytes: int) -> None:
        super().__init__(group, number)
        self.memory = torch.zeros(0, dtype=torch.uint8)
        self._nbytes = nbytes

    def start(self) -> None:
        if self.group.rank == 0:
            self.memory = self.group.node.storage(self._nbytes)
            self.group.show(SHOWN, self.number, self.memory)
        else:
            self.lay_out(self.memory)

    def advance(self) -> None:
        if len(shown := self.shown(SHOWN)) == self.group.size - 1:
            if self.group.rank:
                self.memory = torch.from_numpy(shown[0][: self._nbytes])
            self._done = True


def like(memory: Bytes, tensor: Tensor) -> Tensor:
    """The first of these bytes as a tensor of that type and shape."""
    return torch.from_numpy(memory[: tensor.nbytes]).view(tensor.dtype).view(tensor.shape)


def slices(count: int, ranks: int) -> list[tuple[int, int]]:
    """Nearly equal parts of so many elements; none begins within what is a cache line of float32."""
    line = ALIGNMENT // torch.float32.itemsize
    ends = [min(count, -(-count * place // ranks // line) * line) for place in range(ranks)] + [count]
    return list(pairwise(ends))
