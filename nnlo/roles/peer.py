"""A worker of a collective: reads batches, computes gradients, and reduces updates with the other workers.

A round is the batches behind one update. All workers take part in every round, those without a batch too,
and know from each other's records what all did, so that their clocks and the points of the run are the
same. The first worker reports to rank 0, which validates and says at each point whether to go on.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from nnlo.comm.base import Channel, Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.data.dealing import Range, even_share
from nnlo.flat import HEADER_BYTES, Arena, finite
from nnlo.roles.buckets import Buckets
from nnlo.roles.computing import Work
from nnlo.roles.marks import Marks
from nnlo.roles.parcels import Parcels
from nnlo.roles.peer_state import PeerState
from nnlo.roles.reducing import reducing, whole
from nnlo.roles.round import NOTHING, NOTICED, SIGNALLED, Round, Told, record_size
from nnlo.roles.setup import Setup
from nnlo.roles.sharing import computing
from nnlo.training.job import Job

MASTER = 0
REPORTS = 2  # the tag of the channel between the first worker and rank 0
NOTICES = 4  # of that by which rank 0 says that it wants to be shown the weights
GO, SHOW = 1, 2  # what the first worker tells the others at a point of the run: to go on, to show their state
REPORT_BYTES = 1 << 16  # room behind the weights for the algorithm's figures, as JSON


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
    """`transport` reaches rank 0, `workers` the other workers."""

    def __init__(self, transport: Transport, workers: Transport, job: Job, setup: Setup) -> None:
        self.transport, self.workers, self.algorithm, self.job = transport, workers, job.collective, job
        layout, sums = setup.layout, len(job.metric_names)
        nbytes = snapshot_bytes(setup, job, workers.size)
        self.up = Arena(layout, workers.size * record_size(sums), transport.storage(nbytes + REPORT_BYTES))
        self.round = Round(workers, sums, self.up.sums)
        self.x = self.up.vector
        self.gradient = self.vector()
        self.update = self.gradient if self.algorithm.gradient_is_update else self.vector()
        self.sums = torch.zeros(sums, dtype=torch.float64)
        self.computing = computing(transport, job, setup, self.x, self.gradient, self.up, self.sums)
        place = job.place(workers.rank + 1, workers.size, layout, setup.groups)
        self.state = self.algorithm.init(self.x, self.update, place)
        buckets = self.buckets(setup)
        self.reducing = reducing(workers, self.algorithm, layout, place, self.x, self.state, buckets)
        pools = setup.intake.pools
        batches = pools[workers.rank if len(pools) > 1 else 0]
        self.share = even_share(batches, *((workers.rank, workers.size) if len(pools) == 1 else (0, 1)))
        self.marks = Marks(setup.intake.samples, job.epochs, job.validate_every)
        self.samples, self.nbytes = setup.intake.samples, nbytes
        self.clock = self.batches = self.version = 0
        self.factor, self.flags = 1.0, Flag.NONE
        self.bad_in_a_row, self.hopeless = 0, False
        self.channel: Channel | None = None
        self.notices: Channel | None = None
        self.signals, self.restores = setup.signals, setup.restores
        self.keeping = PeerState(self, Parcels(transport, transport.peers[MASTER])) if setup.keeps else None

    def vector(self) -> Tensor:
        """Memory of the transport's, of the weights' type and shape: what lies there is summed without a copy."""
        return self.workers.storage(self.x.nbytes).view(self.x.dtype)

    def buckets(self, setup: Setup) -> Buckets | None:
        """Parts of the gradient that are reduced early, where that can be.

        In fp16 a gradient may be computed twice, and that of a team is whole after the backward pass alone.
        """
        nbytes = self.algorithm.bucket_bytes
        if not nbytes or self.workers.size == 1 or self.job.amp is torch.float16 or setup.team:
            return None
        reduce = self.workers.allreduce
        progress = self.workers.progress
        return Buckets(setup.module, setup.layout, self.gradient, self.up.buffers, reduce, progress, nbytes)

    async def run(self) -> None:
        await self.begin()
        first = await self.keeping.restored() if self.keeping and self.restores else self.deal(0)
        for epoch in range(first, self.job.epochs):
            self.deal(epoch + 1)
            if not await self.epoch(epoch):
                break
        self.reducing.close()
        await self.computing.end()

    def deal(self, epoch: int) -> int:
        """This worker's batches of that epoch, from now on read ahead."""
        first, stop = self.share
        if stop > first and epoch < self.job.epochs:
            self.computing.add(Range(epoch, first, stop - first))
        return epoch

    def has_batches(self, epoch: int) -> bool:
        """Whether this worker has a batch left in that epoch, as far as it knows."""
        ranges = self.computing.prefetch.ranges
        return bool(ranges) and ranges[0].epoch == epoch

    async def begin(self) -> None:
        """Take over the weights of rank 0."""
        if self.workers.rank == 0:
            self.channel = self.transport.channel(self.transport.peers[MASTER], REPORTS, HEADER_BYTES)
            if self.keeping:
                self.notices = self.transport.channel(self.transport.peers[MASTER], NOTICES, HEADER_BYTES)
                self.notices.post()
        source = self.transport.broadcast(self.up.storage[weights_start(self.up) : self.nbytes], MASTER)
        await self.transport.wait([source])
        self.algorithm.start(self.x, self.x, self.state)
        self.computing.flat.write_counters(self.up.counters)

    async def epoch(self, epoch: int) -> bool:
        """The rounds of one epoch; whether to go on after them."""
        while True:
            self.algorithm.begin(epoch, self.state)
            told = await self.one_round(epoch)
            over = not any(one.left for one in told)
            finished = over and epoch + 1 == self.job.epochs
            due = self.marks.due(self.clock, self.batches, finished) or self.failing()
            if due or any(one.asks for one in told):
                ended = due and self.marks.take(self.clock, self.batches, finished)
                figures = self.algorithm.report(self.state) if ended else {}
                if not await self.go_on(epoch + over, finished, figures):
                    return False
            else:
                await self.report(Header(Kind.REPORT, nbytes=Arena.sums_end(self.up.sums.numel())))
            if over:
                return True

    def failing(self) -> bool:
        """Whether rank 0 is going to end this."""
        return self.hopeless or self.marks.endless(self.clock)

    async def one_round(self, epoch: int) -> list[Told]:
        """Compute one update, and take in what becomes of all; what every worker did."""
        self.scale(self.job.factor(self.clock, self.samples))
        done = await self.compute(epoch)
        update = self.sealed(done)
        good = done.samples if update else 0
        left = self.has_batches(epoch)
        up, down = self.reducing.bytes_up, self.reducing.bytes_down
        spoils, sums = self.reducing.spoils, self.sums.tolist()
        asks, unread = self.asks(), done.unread
        mine = Told(good, done.samples - good, done.count, left, done.busy, up, down, spoils, asks, unread, sums)
        began = self.transport.trace.now()
        under_way = [self.round.tell(mine), *self.reducing.under_way]
        self.computing.prefetch.prepare()
        while pending := [source for source in under_way if not source.ready]:
            await self.workers.wait(pending)
        told = self.round.told()
        await self.reduce(told)
        self.transport.trace.add("exchange", began, self.reducing.bytes_up, self.version, self.version)
        return told

    def asks(self) -> int:
        """Whether the weights are to be shown after this round."""
        if self.signals.caught:
            return SIGNALLED
        if self.notices is None or not self.notices.ready:
            return NOTHING
        self.notices.take()
        self.notices.post()
        return NOTICED

    async def compute(self, epoch: int) -> Work:
        algorithm, x, state = self.algorithm, self.x, self.state
        if not self.has_batches(epoch):
            self.sums.zero_()
            return Work(0, 0)
        return await self.computing.work(
            algorithm.batches(epoch),
            self.before,
            lambda samples: algorithm.local(x, self.gradient, samples, state),
        )

    def before(self, samples: int) -> None:
        """A gradient is about to be computed."""
        self.algorithm.probe(self.x, self.state)
        self.reducing.begin(samples)

    def sealed(self, done: Work) -> bool:
        """Have the update made; whether it is there and finite."""
        if not done.samples:
            self.reducing.idle()
            return False
        self.computing.flat.gather(self.up.counters)
        good = self.reducing.counts(self.algorithm.send(self.x, self.state), self.up.buffers)
        if not good:
            self.algorithm.dropped(self.x, self.state)
            self.computing.restore_buffers()
        return good

    async def reduce(self, told: list[Told]) -> None:
        """Make one step of all workers' updates, on each of them alike."""
        samples = [one.samples for one in told]
        self.clock += sum(samples) + sum(one.refused + one.unread for one in told)
        self.batches += sum(one.count for one in told)
        self.flags = Flag.NONE
        bad = sum(one.refused > 0 for one in told)
        self.count_bad(bad)
        if not sum(samples):
            self.algorithm.refused(self.x, self.state)
        elif any(one.spoils for one in told):
            self.drop(bad)
        else:
            await self.share_buffers(samples)
            merged = await self.reducing.reduce(self.update, samples, self.version)
            self.step(merged) if finite(merged) else self.drop(bad)

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

    def scale(self, factor: float) -> None:
        """The schedule's factor from now on."""
        if factor != self.factor:
            if self.algorithm.sends_gradient:
                self.reducing.scale(factor)
            self.algorithm.scale(factor, self.state)
            self.factor = factor

    async def report(self, header: Header) -> None:
        """The first worker tells rank 0 what all did."""
        if self.channel is not None:
            sent = self.channel.send(replace(header, version=self.version, flags=self.flags), self.up.storage)
            if not sent.ready:
                await self.transport.wait([sent])

    async def go_on(self, epoch: int, finished: bool, figures: dict[str, Any]) -> bool:
        """A point of the run: show the weights and the algorithm's figures to rank 0, and hear whether to go on.

        epoch: that of the next round.
        """
        word = torch.zeros(1, dtype=torch.uint8)
        if self.channel is not None:
            self.computing.flat.gather(self.up.counters)
            self.channel.post()
            text = torch.frombuffer(bytearray(json.dumps(figures).encode()), dtype=torch.uint8)
            self.up.storage[self.nbytes : self.nbytes + len(text)].copy_(text)
            await self.report(Header(Kind.SNAPSHOT, nbytes=self.nbytes + len(text), count=int(finished)))
            await self.transport.wait([self.channel])
            told = self.channel.take()
            word[0] = GO * (told.kind is not Kind.STOP) + SHOW * bool(told.flags & Flag.SAVE)
        await self.workers.wait([self.workers.broadcast(word, 0)])
        if self.keeping and word[0] & SHOW:
            await self.keeping.show(epoch)
        return bool(word[0] & GO) and not finished


def snapshot_bytes(setup: Setup, job: Job, workers: int) -> int:
    """Records of all workers, then weights and buffers."""
    return Arena.nbytes(setup.layout, workers * record_size(len(job.metric_names)))


def weights_start(arena: Arena) -> int:
    """Where counters, buffers and weights begin."""
    return Arena.sums_end(arena.sums.numel())
