"""The rounds of workers that exchange among themselves: the batches behind one update, then what becomes of all.

All workers take part in every round, those without a batch too, and know from each other's records what all did, so
that their clocks and the points of the run are the same. The first worker reports to rank 0, which validates and says
at each point whether to go on. Where a worker is lost, the others go on from the last round that any of them has been
through.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nnlo.algos import Place
from nnlo.comm.base import Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.data.dealing import Range
from nnlo.errors import PeerLost
from nnlo.flat import Arena
from nnlo.roles.computing import Work
from nnlo.roles.marks import Marks
from nnlo.roles.parcels import Parcels
from nnlo.roles.peer_state import PeerState
from nnlo.roles.reducing import Reducing
from nnlo.roles.regrouping import Regrouping
from nnlo.roles.reports import GO, MASTER, REPORT_BYTES, SHOW, Reports, snapshot_bytes, weights_start
from nnlo.roles.round import NOTHING, SIGNALLED, Round, Told, record_size
from nnlo.roles.setup import Setup
from nnlo.roles.shares import Shares
from nnlo.roles.sharing import computing
from nnlo.training.checkpoint.parcel import unpacked
from nnlo.training.job import Job

NOT_BEGUN = -1  # rounds of a worker that has no weights yet


class Rounds(ABC):
    """`transport` reaches rank 0, `workers` the other workers.

    `epoch` is that of the next round; `under_way`: whether one is. What comes of a round is taken in by `close` at
    once, or not at all.
    """

    def __init__(self, transport: Transport, workers: Transport, job: Job, setup: Setup) -> None:
        self.transport, self.workers, self.job, self.setup = transport, workers, job, setup
        layout, self._sums = setup.layout, len(job.metric_names)
        self.nbytes = snapshot_bytes(setup, job, workers.size)
        self.up = Arena(
            layout, workers.size * record_size(self._sums), transport.storage(self.nbytes + REPORT_BYTES)
        )  # fmt: skip
        self.x = self.up.vector
        self.gradient = self.vector()
        self.update = self.gradient if job.algorithm.gradient_is_update else self.vector(self.vectors)
        self.sums = torch.zeros(self._sums, dtype=torch.float64)
        self.computing = computing(transport, job, setup, self.x, self.gradient, self.up, self.sums)
        self.state = job.algorithm.init(self.x, self.update, self.place())
        self.marks = Marks(setup.intake.samples, job.epochs, job.validate_every)
        self.samples, self.shares = setup.intake.samples, Shares(setup.intake.pools, workers.rank)
        self.form(workers)
        self.clock = self.batches = self.version = self.epoch = 0
        self.rounds = NOT_BEGUN
        self.factor, self.flags = 1.0, Flag.NONE
        self.bad_in_a_row, self.hopeless = 0, False
        self.under_way = False
        self.told: list[Told] = []
        self.figures: dict[str, Any] = {}
        self.lost = False
        self.reports = Reports(self)
        self.parcels = Parcels(transport, transport.peers[MASTER])
        self.regrouping, self.keeping = Regrouping(self), PeerState(self)

    def vector(self, count: int = 1) -> Tensor:
        """Memory of the transport's for so many vectors: what lies there is exchanged without a copy."""
        return self.transport.storage(count * self.x.nbytes).view(self.x.dtype)

    def place(self) -> Place:
        """This worker's among those that there are now."""
        return self.job.place(self.workers.rank + 1, self.workers.size, self.setup.layout, self.setup.groups)

    def form(self, workers: Transport) -> None:
        """These are the workers from now on; what sums and codecs keep from one round to the next begins anew."""
        self.workers = workers
        self.round = Round(workers, self._sums, self.up.sums)
        self.reducing = self.exchanging()
        self.shares.among(workers.rank, workers.size)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch == self.job.epochs

    async def run(self) -> None:
        self.reports.open()
        try:
            await self.begin()
        except PeerLost as lost:
            self.stop(lost)
        if self.setup.restores:
            await self.keeping.restored()
        else:
            self.deal(0)
        while not await self.ends():
            pass
        self.reducing.close()
        await self.regrouping.leave()
        await self.computing.end()

    async def ends(self) -> bool:
        """Train, after a loss with those who are left; False where there is another."""
        try:
            if self.lost and not await self.regrouping.run():
                return True
            self.lost = False
            await self.train()
        except PeerLost as lost:
            self.stop(lost)
        return not self.lost

    def stop(self, lost: PeerLost) -> None:
        """Note that one of the workers is lost; without others this one cannot go on."""
        if lost.peer not in self.workers.peers:
            raise lost
        self.lost = True

    async def train(self) -> None:
        """All rounds that are left, unless rank 0 says stop."""
        going = True
        while going and not self.finished:
            epoch = self.epoch
            self.deal(epoch + 1)
            while going and self.epoch == epoch:
                await self.one_round()
                going = await self.goes_on()

    async def begin(self) -> None:
        """Take over the weights of rank 0, which come by way of the first worker."""
        if self.workers.rank == 0:
            self.hold(unpacked(await self.parcels.receive_all(), "rank 0"))
        source = self.workers.broadcast(self.up.storage[weights_start(self.up) : self.nbytes], 0)
        if not source.ready:
            await self.workers.wait([source])
        self.start()

    def hold(self, weights: Mapping[str, Tensor]) -> None:
        """Have these weights and buffers."""
        for name, values in weights.items():
            getattr(self.up, name).copy_(values)

    def start(self) -> None:
        """Begin at the weights that are there."""
        self.job.algorithm.start(self.x, self.x, self.state)
        self.computing.flat.write_counters(self.up.counters)
        self.rounds = 0

    def catch_up(self, weights: Mapping[str, Tensor]) -> None:
        """Others have been through a round that this worker has not: be where they are."""
        self.hold(weights)
        self.start()

    # One round.

    async def one_round(self) -> None:
        """Compute one update, and take in what becomes of all."""
        self.under_way = True
        self.scale(self.job.factor(self.clock, self.samples))
        done = await self.compute()
        mine = self.sealed(done)
        began = self.transport.trace.now()
        sources = [self.round.tell(mine), *self.reducing.under_way]
        self.computing.prefetch.prepare()
        while pending := [source for source in sources if not source.ready]:
            await self.workers.wait(pending)
        told = self.round.told()
        self.close(told, await self.merged(told))
        self.transport.trace.add("exchange", began, self.reducing.bytes_up, self.version, self.version)

    async def compute(self) -> Work:
        if not self.has_batches:
            self.sums.zero_()
            self.computing.keep_buffers()
            return Work(0, 0)
        return await self.computing.work(self.job.algorithm.batches(self.epoch), self.opens, self.local)

    def opens(self, samples: int) -> None:
        """A gradient is about to be computed."""
        self.job.algorithm.probe(self.x, self.state)
        self.reducing.begin(samples)

    def local(self, samples: int) -> None:
        """The gradient of so many samples is there."""
        self.job.algorithm.local(self.x, self.gradient, samples, self.state)

    def sealed(self, done: Work) -> Told:
        """Have the update made; what the others are told."""
        good = done.samples if self.made(done) else 0
        up, down = self.reducing.bytes_up, self.reducing.bytes_down
        spoils, sums = self.reducing.spoils, self.sums.tolist()
        asks = SIGNALLED if self.setup.signals.caught else self.reports.asks()
        refused, left = done.samples - good, self.has_batches
        return Told(good, refused, done.count, left, done.busy, up, down, spoils, asks, done.unread, sums)

    def close(self, told: list[Told], merged: Tensor | None) -> None:
        """Take in what all workers did, and what became of that."""
        self.clock += sum(one.samples + one.refused + one.unread for one in told)
        self.batches += sum(one.count for one in told)
        self.flags = Flag.NONE
        bad = sum(one.refused > 0 for one in told)
        self.count_bad(bad)
        self.take(told, merged, bad)
        self.turn(told)
        self.told, self.under_way, self.rounds = told, False, self.rounds + 1

    def count_bad(self, updates: int) -> None:
        """So many updates are not finite; rank 0 counts as this does."""
        self.bad_in_a_row += updates
        self.hopeless |= self.bad_in_a_row >= self.job.max_bad_updates

    def scale(self, factor: float) -> None:
        """The schedule's factor from now on."""
        if factor != self.factor:
            if self.job.algorithm.sends_gradient:
                self.reducing.scale(factor)
            self.job.algorithm.scale(factor, self.state)
            self.factor = factor

    # Between two rounds.

    async def goes_on(self) -> bool:
        """Report; at a point of the run, hear from rank 0 whether to go on."""
        finished = self.finished
        due = self.marks.due(self.clock, self.batches, finished) or self.failing
        if not (due or any(one.asks != NOTHING for one in self.told)):
            await self.reports.send(Header(Kind.REPORT, nbytes=Arena.sums_end(self.up.sums.numel())))
            return True
        ended = due and self.marks.pass_all(self.clock, self.batches, finished)
        self.figures = self.job.algorithm.report(self.state) if ended else {}
        await self.round.over()
        word = await self.reports.ask(self.figures)
        if word & SHOW:
            await self.keeping.show()
        return bool(word & GO) and not finished

    @property
    def failing(self) -> bool:
        """Whether rank 0 is going to end this."""
        return self.hopeless or self.marks.endless(self.clock)

    # What the pattern says.

    #: Vectors of shape (n,) in an update.
    vectors = 1

    @abstractmethod
    def exchanging(self) -> Reducing:
        """How updates travel among the workers that there are now."""

    @abstractmethod
    def deal(self, epoch: int) -> None:
        """This worker's batches of that epoch, from now on read ahead, where they are not yet."""

    @property
    @abstractmethod
    def has_batches(self) -> bool:
        """Whether this worker has a batch for the next round, as far as it knows."""

    @property
    @abstractmethod
    def ranges(self) -> list[Range]:
        """What this worker is still to do of what it was dealt, for a checkpoint."""

    @abstractmethod
    def made(self, done: Work) -> bool:
        """Have the update made; whether there is one, and it is finite."""

    @abstractmethod
    async def merged(self, told: list[Told]) -> Tensor | None:
        """Exchange: what becomes of all workers' updates; None where there is nothing to become of."""

    @abstractmethod
    def take(self, told: list[Told], merged: Tensor | None, bad: int) -> None:
        """Make one step of what became of all workers' updates, `bad` of which were not finite."""

    @abstractmethod
    def turn(self, told: list[Told]) -> None:
        """Go on to the next epoch, where this one is done."""

    def refused(self) -> None:  # noqa: B027
        """What this round has come to is given up."""

    async def show(self) -> None:  # noqa: B027
        """At a point of the run: show rank 0 what the first worker cannot show for all."""

    def own(self) -> dict[str, Any]:
        """Weights that no other worker has, for a checkpoint."""
        return {}

    def regrouped(self) -> None:  # noqa: B027
        """There are other workers than there were, and all go on."""
