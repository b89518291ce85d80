"""The master: deals batches, applies updates to the centre weights, answers with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from nnlo.algos import Lineage, Update
from nnlo.comm.base import Channel, Source, Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.data.dealing import Dealer, Range
from nnlo.errors import NnloError, PeerLost, ProtocolError, TrainingError
from nnlo.flat import HEADER_BYTES, Arena
from nnlo.roles.centre import Centre
from nnlo.roles.milestones import Milestones, Owner
from nnlo.roles.prefetch import DEPTH
from nnlo.roles.setup import Setup
from nnlo.roles.worker import EXCHANGE
from nnlo.training.callbacks import Callbacks
from nnlo.training.job import Job
from nnlo.training.record import Recorder

#: Non-finite updates in a row that end a job.
MOST_BAD_UPDATES = 10


class Master:
    """The loop of the master of a server algorithm.

    Each worker has at most one message here: it is `pending` until a step takes it in, then `parked`
    until there is an answer. An asynchronous step takes one update; a synchronous one takes those of
    all workers that still have batches in the epoch.
    """

    def __init__(
        self, transport: Transport, job: Job, setup: Setup, callbacks: Callbacks, owner: Owner, history: dict[str, Any]
    ) -> None:
        self.transport, self.algorithm, self.callbacks = transport, job.algorithm, callbacks
        self._layout, self._sums, nbytes = setup.layout, len(job.metric_names), setup.arena_bytes(job)
        workers = transport.peers[1:]
        self.channels = {peer: transport.channel(peer, EXCHANGE, nbytes) for peer in workers}
        self._peer_of = {channel: peer for peer, channel in self.channels.items()}
        self.inbox = {peer: self._arena(channel.incoming) for peer, channel in self.channels.items()}
        self.centre = Centre(lambda: self._arena(transport.storage(nbytes)))
        self._began = transport.clock()
        self.recorder = Recorder(job.metric_names, self.seconds)
        self.optimizer = job.optimizer.build(self.centre.arena.vector) if job.optimizer else None
        lr = self.optimizer.lr if self.optimizer else math.nan
        self.milestones = Milestones(transport, job, setup, self.centre, self.recorder, callbacks, owner, history, lr)
        self.milestones.snapshot.put(self.centre.arena)
        self.state = self.algorithm.init_master(self.centre.arena.vector, self.optimizer)
        unit = self.algorithm.sync_every
        self.dealer = Dealer(
            setup.intake.pools, workers, job.epochs,
            grain=setup.intake.grain, unit=unit, synchronous=self.algorithm.synchronous,
        )  # fmt: skip
        self._low_water = max(2 * unit, DEPTH)
        self.version = self.clock = self.batches = self._bad_in_a_row = 0
        self.pending: dict[int, Header] = {}
        self.parked: set[int] = set()
        self.strangers = set(workers)
        self.stopping = False
        self.failure: NnloError | None = None

    def _arena(self, storage: Any) -> Arena:
        return Arena(self._layout, self._sums, storage)

    def seconds(self) -> float:
        """The training clock."""
        return self.transport.clock() - self._began

    async def run(self) -> None:
        """Serve until every worker has left."""
        for channel in self.channels.values():
            channel.post()
        while self.channels:
            for source in await self.transport.wait([*self.channels.values(), *self.milestones.sources()]):
                await self.handle(source)
        if not self.dealer.finished and not self.stopping:
            self.failure = self.failure or TrainingError("every worker is lost")
        await self.milestones.settle()
        self.milestones.snapshot.take(self.centre.arena)

    async def handle(self, source: Source) -> None:
        """Take in one message or one validation, then do what it allows."""
        if not isinstance(source, Channel):
            self.milestones.collect()
            return
        self.take(self._peer_of[source])
        while step := self.next_step():
            await self.apply(step)
            self.serve()
        self.serve()

    def take(self, peer: int) -> None:
        """Take in what a worker sent."""
        try:
            header = self.channels[peer].take()
        except PeerLost:
            self.leave(peer)
            return
        if header.kind is Kind.BYE:
            self.leave(peer)
        elif header.kind is Kind.HELLO:
            self.strangers.discard(peer)
            self.channels[peer].post()
            self.parked.add(peer)
        elif header.kind is Kind.UPDATE:
            self.take_update(peer, header)
        else:
            raise ProtocolError(f"the master got {header.kind.name} from rank {peer}")

    def take_update(self, peer: int, header: Header) -> None:
        if header.count:
            self.dealer.done(peer, Range(header.epoch, header.first, header.count))
        if header.flags & Flag.EXHAUSTED:
            self.dealer.exhaust(peer, header.epoch)
        self.pending[peer] = header

    def leave(self, peer: int) -> None:
        """A worker is gone, in order or not: the others take over what it had not done."""
        del self.channels[peer]
        self.strangers.discard(peer)
        self.parked.discard(peer)
        self.dealer.lose(peer)

    def next_step(self) -> list[int]:
        """The workers whose updates make the next step; none where it has to wait."""
        if not self.algorithm.synchronous:
            return list(self.pending)[:1]
        awaited = [peer for peer in self.channels if peer not in self.pending and self.dealer.outstanding(peer)]
        return [] if awaited or self.strangers else sorted(self.pending)

    async def apply(self, step: Sequence[int]) -> None:
        """One step of the centre."""
        headers = {peer: self.pending.pop(peer) for peer in step}
        if not self.stopping:
            self.clock += sum(header.samples for header in headers.values())
            self.batches += sum(header.count for header in headers.values())
            if good := [peer for peer in step if self.accepted(peer, headers[peer])]:
                self.update(good, headers)
            finished = self.dealer.finished
            if self.milestones.due(self.clock, self.batches, finished):
                self.stopping |= await self.milestones.reach(self.clock, self.batches, finished)
        for peer in step:
            if peer in self.channels:
                self.channels[peer].post()
                self.parked.add(peer)

    def accepted(self, peer: int, header: Header) -> bool:
        """Whether this update is to be applied; refused ones are counted, and too many in a row end the job."""
        if not header.flags & Flag.NON_FINITE:
            self._bad_in_a_row = 0 if header.samples else self._bad_in_a_row
            return header.samples > 0
        self.recorder.refused(peer, header.samples)
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= MOST_BAD_UPDATES:
            self.failure = TrainingError(
                f"{MOST_BAD_UPDATES} updates in a row were inf or nan, the last from rank {peer}: lower --lr, "
                "or look for such values in the data"
            )
            self.stopping = True
        return False

    def update(self, good: Sequence[int], headers: dict[int, Header]) -> None:
        """Apply the updates of these workers."""
        arena = self.centre.writable()
        lineages = [Lineage(p, headers[p].version, self.version - headers[p].version, headers[p].samples) for p in good]
        merged = self.algorithm.merge([Update(self.inbox[line.sender].vector, line) for line in lineages])
        self.algorithm.step(arena.vector, merged, lineages, self.state)
        self.merge_buffers(arena, lineages)
        self.version += 1
        self.record(lineages, headers)

    def merge_buffers(self, arena: Arena, lineages: Sequence[Lineage]) -> None:
        """Float buffers: the mean of the senders', by samples; an asynchronous one counts for one of M.

        Integer buffers (BatchNorm's batch counter): the largest.
        """
        if arena.buffers.numel():
            samples = sum(line.samples for line in lineages)
            parts = [self.inbox[line.sender].buffers * (line.samples / samples) for line in lineages]
            mean = torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]
            arena.buffers.lerp_(mean, 1.0 if self.algorithm.synchronous else 1.0 / len(self.channels))
        for line in lineages if arena.counters.numel() else ():
            arena.counters.copy_(arena.counters.maximum(self.inbox[line.sender].counters))

    def record(self, lineages: Sequence[Lineage], headers: dict[int, Header]) -> None:
        for line in lineages:
            header, sums = headers[line.sender], self.inbox[line.sender].sums.tolist()
            self.recorder.update(line.sender, line.samples, sums, line.delay, header.busy_us * 1e-6, header.nbytes)
        self.recorder.step()
        if self.callbacks.wants_updates:
            self.callbacks.on_train_batch_end(self.version - 1, self.logs(lineages))

    def logs(self, lineages: Sequence[Lineage]) -> dict[str, Any]:
        """What callbacks are told of one step."""
        samples = sum(line.samples for line in lineages)
        sums = [sum(of) for of in zip(*(self.inbox[line.sender].sums.tolist() for line in lineages), strict=True)]
        means = {name: value / samples for name, value in zip(self.recorder.metric_names, sums, strict=True)}
        place = {"samples": self.clock, "epoch": self.clock / self.milestones.samples}
        return {**place, "staleness": max(line.delay for line in lineages), **means}

    def serve(self) -> None:
        """Answer the parked workers that there is an answer for."""
        if self.algorithm.synchronous and self.strangers:
            return
        for peer in sorted(self.parked):
            if self.reply(peer):
                self.parked.discard(peer)

    def reply(self, peer: int) -> bool:
        """Send weights and perhaps a range, or stop; False where the worker has to wait."""
        if self.stopping or self.dealer.finished:
            self.channels[peer].send(Header(Kind.STOP), self.transport.storage(HEADER_BYTES))
            return True
        outstanding = self.dealer.outstanding(peer)
        dealt = self.dealer.grant(peer) if outstanding < self._low_water else None
        if not outstanding and dealt is None:
            return False
        arena = self.centre.writable()
        dealt = dealt or Range(0, 0, 0)
        header = Header(
            Kind.REPLY, version=self.version, nbytes=arena.reply_bytes,
            epoch=dealt.epoch, first=dealt.first, count=dealt.count,
        )  # fmt: skip
        self.centre.pin(self.channels[peer].send(header, arena.storage))
        self.recorder.replied(peer, header.nbytes)
        return True
