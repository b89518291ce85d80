"""A worker of a collective: reads batches, computes gradients, and reduces updates with the other workers.

A round is the batches behind one update. All workers take part in every round, those without a batch too,
and know from each other's records what all did, so that their clocks and the points of the run are the
same. The first worker reports to rank 0, which validates and says at each point whether to go on. Where a worker is
lost, the others go on from the last round that any of them has been through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nnlo.comm.base import Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.data.dealing import Range
from nnlo.errors import PeerLost
from nnlo.flat import Arena, finite
from nnlo.roles.buckets import Buckets
from nnlo.roles.computing import Work
from nnlo.roles.marks import Marks
from nnlo.roles.parcels import Parcels
from nnlo.roles.peer_state import PeerState
from nnlo.roles.reducing import reducing, whole
from nnlo.roles.regrouping import Regrouping
from nnlo.roles.reports import GO, MASTER, REPORT_BYTES, SHOW, Reports, snapshot_bytes, weights_start
from nnlo.roles.round import NOTHING, SIGNALLED, Round, Told, record_size
from nnlo.roles.setup import Setup
from nnlo.roles.shares import Shares
from nnlo.roles.sharing import computing
from nnlo.training.checkpoint.parcel import unpacked
from nnlo.training.job import Job

NOT_BEGUN = -1  # rounds of a worker that has no weights yet


class Peer:
    """The loop of one worker of a collective algorithm."""

    def __init__(self, transport: Transport, job: Job, setup: Setup) -> None:
        self.transport, self.job, self.setup = transport, job, setup

    async def run(self) -> None:
        """Train until all epochs are done or rank 0 says stop."""
        workers = await self.transport.split(0 if self.transport.rank else None)
        assert workers is not None
        await Rounds(self.transport, workers, self.job, self.setup).run()


class Rounds:
    """`transport` reaches rank 0, `workers` the other workers.

    `epoch` is that of the next round; `under_way`: whether one is. What comes of a round is taken in by `close` at
    once, or not at all.
    """

    def __init__(self, transport: Transport, workers: Transport, job: Job, setup: Setup) -> None:
        self.transport, self.algorithm, self.job, self.setup = transport, job.collective, job, setup
        layout, self._sums = setup.layout, len(job.metric_names)
        self.nbytes = snapshot_bytes(setup, job, workers.size)
        self.up = Arena(
            layout, workers.size * record_size(self._sums), transport.storage(self.nbytes + REPORT_BYTES)
        )  # fmt: skip
        self.x = self.up.vector
        self.gradient = self.vector()
        self.update = self.gradient if self.algorithm.gradient_is_update else self.vector()
        self.sums = torch.zeros(self._sums, dtype=torch.float64)
        self.computing = computing(transport, job, setup, self.x, self.gradient, self.up, self.sums)
        self.state = self.algorithm.init(
            self.x, self.update, job.place(workers.rank + 1, workers.size, layout, setup.groups)
        )  # fmt: skip
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

    def vector(self) -> Tensor:
        """Memory of the transport's, of the weights' type and shape: what lies there is summed without a copy."""
        return self.transport.storage(self.x.nbytes).view(self.x.dtype)

    def form(self, workers: Transport) -> None:
        """These are the workers from now on; what sums and codecs keep from one round to the next begins anew."""
        self.workers, layout = workers, self.setup.layout
        self.round = Round(workers, self._sums, self.up.sums)
        place = self.job.place(workers.rank + 1, workers.size, layout, self.setup.groups)
        self.reducing = reducing(workers, self.algorithm, layout, place, self.x, self.state, self.buckets())
        self.shares.among(workers.rank, workers.size)

    def buckets(self) -> Buckets | None:
        """Parts of the gradient that are reduced early, where that can be.

        In fp16 a gradient may be computed twice, and that of a team is whole after the backward pass alone.
        """
        setup, nbytes = self.setup, self.algorithm.bucket_bytes
        if not nbytes or self.workers.size == 1 or self.job.amp is torch.float16 or setup.team:
            return None
        reduce = self.workers.allreduce
        progress = self.workers.progress
        return Buckets(setup.module, setup.layout, self.gradient, self.up.buffers, reduce, progress, nbytes)

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
                self.algorithm.begin(epoch, self.state)
                await self.one_round()
                going = await self.goes_on()

    def deal(self, epoch: int) -> None:
        """This worker's batches of that epoch, from now on read ahead, where they are not yet."""
        first, stop = self.shares.own
        dealt = any(one.epoch == epoch for one in self.computing.prefetch.ranges)
        if stop > first and epoch < self.job.epochs and not dealt:
            self.computing.add(Range(epoch, first, stop - first))

    @property
    def has_batches(self) -> bool:
        """Whether this worker has a batch left in this epoch, as far as it knows."""
        ranges = self.computing.prefetch.ranges
        return bool(ranges) and ranges[0].epoch == self.epoch

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
        for name in ("vector", "buffers", "counters"):
            getattr(self.up, name).copy_(weights[name])

    def start(self) -> None:
        """Begin at the weights that are there."""
        self.algorithm.start(self.x, self.x, self.state)
        self.computing.flat.write_counters(self.up.counters)
        self.rounds = 0

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
        algorithm, x, state = self.algorithm, self.x, self.state
        if not self.has_batches:
            self.sums.zero_()
            self.computing.keep_buffers()
            return Work(0, 0)
        return await self.computing.work(
            algorithm.batches(self.epoch),
            self.opens,
            lambda samples: algorithm.local(x, self.gradient, samples, state),
        )

    def opens(self, samples: int) -> None:
        """A gradient is about to be computed."""
        self.algorithm.probe(self.x, self.state)
        self.reducing.begin(samples)

    def sealed(self, done: Work) -> Told:
        """Have the update made; what the others are told."""
        good = done.samples if self.made(done) else 0
        up, down = self.reducing.bytes_up, self.reducing.bytes_down
        spoils, sums = self.reducing.spoils, self.sums.tolist()
        asks = SIGNALLED if self.setup.signals.caught else self.reports.asks()
        refused, left = done.samples - good, self.has_batches
        return Told(good, refused, done.count, left, done.busy, up, down, spoils, asks, done.unread, sums)

    def made(self, done: Work) -> bool:
        """Whether there is an update, and it is finite."""
        if not done.samples:
            self.reducing.idle()
            return False
        self.computing.flat.gather(self.up.counters)
        good = self.reducing.counts(self.algorithm.send(self.x, self.state), self.up.buffers)
        if not good:
            self.algorithm.dropped(self.x, self.state)
            self.computing.restore_buffers()
        return good

    async def merged(self, told: list[Told]) -> Tensor | None:
        """What becomes of all workers' updates; None where there is nothing to become of."""
        samples = [one.samples for one in told]
        if not sum(samples) or any(one.spoils for one in told):
            return None
        await self.share_buffers(samples)
        return await self.reducing.reduce(self.update, samples, self.version)

    async def share_buffers(self, samples: list[int]) -> None:
        """Float buffers become their mean by samples."""
        buffers, own = self.up.buffers, samples[self.workers.rank]
        if buffers.numel():
            if own:
                buffers.mul_(own)
            else:
                buffers.zero_()
            await whole(self.workers, buffers)
            buffers.div_(sum(samples))

    def close(self, told: list[Told], merged: Tensor | None) -> None:
        """Make one step of all workers' updates, on each of them alike."""
        self.clock += sum(one.samples + one.refused + one.unread for one in told)
        self.batches += sum(one.count for one in told)
        self.flags = Flag.NONE
        bad = sum(one.refused > 0 for one in told)
        self.count_bad(bad)
        if not any(one.samples for one in told):
            self.algorithm.refused(self.x, self.state)
        elif merged is None or not finite(merged):
            self.drop(bad)
        else:
            self.step(merged)
        self.shares.took([one.count for one in told])
        if not any(one.left for one in told):
            self.epoch += 1
            self.shares.begin()
        self.told, self.under_way, self.rounds = told, False, self.rounds + 1

    def step(self, merged: Tensor) -> None:
        self.algorithm.apply(self.x, merged, self.state)
        self.version, self.bad_in_a_row = self.version + 1, 0

    def drop(self, bad: int) -> None:
        """The sum of this round's updates is not finite, which counts once where none of them was known to be bad."""
        self.flags = Flag.NON_FINITE
        self.count_bad(not bad)
        self.reducing.dropped()
        self.algorithm.refused(self.x, self.state)

    def count_bad(self, updates: int) -> None:
        """So many updates are not finite; rank 0 counts as this does."""
        self.bad_in_a_row += updates
        self.hopeless |= self.bad_in_a_row >= self.job.max_bad_updates

    def scale(self, factor: float) -> None:
        """The schedule's factor from now on."""
        if factor != self.factor:
            if self.algorithm.sends_gradient:
                self.reducing.scale(factor)
            self.algorithm.scale(factor, self.state)
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
        self.figures = self.algorithm.report(self.state) if ended else {}
        await self.round.over()
        word = await self.reports.ask(self.figures)
        if word & SHOW:
            await self.keeping.show()
        return bool(word & GO) and not finished

    @property
    def failing(self) -> bool:
        """Whether rank 0 is going to end this."""
        return self.hopeless or self.marks.endless(self.clock)
