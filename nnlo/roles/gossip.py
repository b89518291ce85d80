"""A node of a graph: a worker with weights of its own, which it mixes with those of its neighbours.

Its samples are its own, too, and it goes through them again and again, however many the others have. An epoch of the
run is over when all nodes together have gone through as many samples as there are.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nnlo.algos import Place
from nnlo.comm.base import Transport
from nnlo.comm.messages import Header, Kind
from nnlo.data.dealing import Range
from nnlo.flat import Arena, finite
from nnlo.roles.computing import Work
from nnlo.roles.mixing import Neighbours
from nnlo.roles.reports import MASTER
from nnlo.roles.round import Told
from nnlo.roles.rounds import NOT_BEGUN, Rounds
from nnlo.roles.setup import Setup
from nnlo.training.job import Job

VIEWS = 5  # the tag of the channel by which each node shows its weights
AHEAD = 2  # epochs of its own that a node has been dealt


class GossipRounds(Rounds):
    """`own_epoch`: the first of the node's own epochs that it was not dealt; `bad`: this round's samples whose
    gradient is not finite.
    """

    reducing: Neighbours

    def __init__(self, transport: Transport, workers: Transport, job: Job, setup: Setup) -> None:
        self.vectors, self.own_epoch, self.bad = job.gossip.vectors, 0, 0
        super().__init__(transport, workers, job, setup)
        self._view = Arena(setup.layout, 0, transport.storage(Arena.nbytes(setup.layout, 0)))
        self._channel = transport.channel(transport.peers[MASTER], VIEWS, self._view.storage.numel())

    def exchanging(self) -> Neighbours:
        return Neighbours(self.workers, self.job.gossip, self.place(), self.update)

    def place(self) -> Place:
        mixing = self.job.gossip.mixings(self.workers.size)[0]
        node, setup = self.workers.rank, self.setup
        neighbours = len(mixing.heard_by(node))
        return self.job.place(node + 1, self.workers.size, setup.layout, setup.groups, neighbours)

    # Batches.

    def deal(self, epoch: int) -> None:
        """As much as is read ahead, of the node's own epochs."""
        first, stop = self.shares.own
        self.own_epoch = max([self.own_epoch, *(one.epoch + 1 for one in self.ranges)])
        while len({one.epoch for one in self.ranges}) < AHEAD:
            self.computing.add(Range(self.own_epoch, first, stop - first))
            self.own_epoch += 1

    @property
    def has_batches(self) -> bool:
        return True

    @property
    def ranges(self) -> list[Range]:
        return self.computing.prefetch.ranges

    async def compute(self) -> Work:
        """Where the node's own generator was at its end, it begins again."""
        self.bad = 0
        self.deal(self.epoch)
        done = await super().compute()
        return done if done.count or not done.ended else await super().compute()

    def local(self, samples: int) -> None:
        """A gradient that is not finite is left out."""
        if finite(self.gradient):
            super().local(samples)
        else:
            self.bad += samples

    # A round.

    def made(self, done: Work) -> bool:
        """A node sends what it has in any case: others wait for it."""
        self.computing.flat.gather(self.up.counters)
        sound = self.reducing.counts(self.job.gossip.send(self.x, self.state), self.up.buffers)
        return sound and not self.bad

    async def merged(self, told: list[Told]) -> Tensor:
        return await self.reducing.reduce(self.update, [one.samples for one in told], self.version)

    def take(self, told: list[Told], merged: Tensor | None, bad: int) -> None:
        self.job.gossip.mix(self.x, self.reducing.values, self.reducing.own, self.state)
        self.version += 1
        if not bad:
            self.bad_in_a_row = 0

    def turn(self, told: list[Told]) -> None:
        self.epoch = min(self.job.epochs, self.clock // self.samples)

    # At a point of the run.

    async def show(self) -> None:
        view = self._view
        view.vector.copy_(self.job.gossip.shown(self.x, self.state))
        view.copy_buffers(self.up)
        sent = self._channel.send(Header(Kind.SNAPSHOT, nbytes=view.storage.numel()), view.storage)
        if not sent.ready:
            await self.transport.wait([sent])

    def own(self) -> dict[str, Any]:
        return {"vector": self.x, "buffers": self.up.buffers}

    # After a loss.

    def catch_up(self, weights: Any) -> None:
        """Each node keeps its own weights, unless it has none yet."""
        if self.rounds == NOT_BEGUN:
            super().catch_up(weights)

    def regrouped(self) -> None:
        self.job.gossip.rejoin(self.x, self.place(), self.state)
