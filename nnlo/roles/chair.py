"""Rank 0 where workers exchange among themselves: validates, keeps the history, decides when to stop."""

from __future__ import annotations

import json
from typing import Any

from nnlo.algos import Lineage
from nnlo.comm.base import Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.errors import NnloError, ProtocolError, TrainingError
from nnlo.flat import HEADER_BYTES, Arena
from nnlo.roles.account import Account
from nnlo.roles.chair_state import ChairState, load
from nnlo.roles.checkpoints import Checkpoints
from nnlo.roles.judge import Judge
from nnlo.roles.losses import Losses
from nnlo.roles.marks import ENDLESS
from nnlo.roles.milestones import Milestones, Owner
from nnlo.roles.peer import REPORT_BYTES, REPORTS, snapshot_bytes, weights_start
from nnlo.roles.round import NOTHING, SIGNALLED, Told, record_size
from nnlo.roles.setup import Setup
from nnlo.roles.stepping import Arrived
from nnlo.training.callbacks import Callbacks
from nnlo.training.checkpoint.contents import understood
from nnlo.training.history import History
from nnlo.training.job import Job
from nnlo.training.record import Recorder


class Chair:
    """Takes no part in the maths: the first worker reports every round, and shows the weights at the run's points."""

    def __init__(
        self, transport: Transport, job: Job, setup: Setup, callbacks: Callbacks, owner: Owner, history: History
    ) -> None:
        self.transport, self.job = transport, job
        self.workers, self._samples = transport.peers[1:], setup.intake.samples
        self._nbytes = snapshot_bytes(setup, job, len(self.workers))
        self.channel = transport.channel(self.workers[0], REPORTS, self._nbytes + REPORT_BYTES)
        self._record_size = record_size(len(job.metric_names))
        self.arena = Arena(setup.layout, len(self.workers) * self._record_size, self.channel.incoming)
        self._base = job.base_rate(setup.layout, setup.groups)
        self._began = transport.clock()
        self.recorder = Recorder(job.metric_names, self.seconds)
        self.account = Account(self.recorder, callbacks, self._samples)
        self.losses = Losses(job, history, self.seconds, transport.clock)
        self.judge = Judge(self.recorder, job.max_bad_updates, job.algorithm.rate_flag)
        self.milestones = Milestones(transport, job, setup, self, self.recorder, callbacks, owner, history, self)
        self.milestones.snapshot.put(self.arena)
        self.clock = self.batches = self.steps = 0
        self.rate = self._base
        self._figures: dict[str, Any] = {}
        self.finished = self.over = False
        self.failure: NnloError | None = None
        self.checkpoints = Checkpoints(transport, job, setup, self.milestones, owner, history, self.seconds)
        self.keeping = ChairState(self, setup) if setup.keeps else None
        self.turns = setup.turns
        self._signals, self.restored, self._asked = setup.signals, setup.restored, NOTHING
        if self.restored:
            with understood(self.restored.saved.folder):
                self._began -= self.restored.master["seconds"]
                load(self, self.restored)

    def seconds(self) -> float:
        """The training clock."""
        return self.transport.clock() - self._began

    def report(self) -> dict[str, Any]:
        """The algorithm's figures of the epoch that ends now."""
        return self._figures

    async def run(self) -> None:
        """Hand out the first weights, then listen until all epochs are done or it is time to stop."""
        self.checkpoints.tell("running")
        await self.transport.split(None)
        first = self.arena.storage[weights_start(self.arena) : self._nbytes]
        await self.transport.wait([self.transport.broadcast(first, 0)])
        if self.keeping and self.restored:
            await self.keeping.hand_out(self.restored)
        while not self.over:
            self.channel.post()
            await self.arrival()
            header = self.channel.take()
            self.take(header)
            if header.kind is Kind.SNAPSHOT:
                await self.point(header)
        await self.checkpoints.written()
        self.milestones.snapshot.take(self.arena)
        if self.failure is None:
            self.turns.end(self.arena)

    async def arrival(self) -> None:
        """Wait for a message, and take in validations that end meanwhile."""
        while not self.channel.ready:
            began = self.transport.trace.now()
            ready = await self.transport.wait([self.channel, *self.milestones.sources()], self.losses.deadline())
            self.transport.trace.add("idle", began)
            if not ready:
                self.losses.silence(self.workers)
            self.milestones.collect()

    def take(self, header: Header) -> None:
        """Take in what the workers did in a round."""
        if header.kind not in (Kind.REPORT, Kind.SNAPSHOT):
            raise ProtocolError(f"rank 0 got {header.kind.name} from rank {self.channel.peer}")
        records = self.arena.sums.view(len(self.workers), self._record_size).tolist()
        told = dict(zip(self.workers, map(Told.read, records), strict=True))
        self._asked = max(one.asks for one in told.values())
        self.rate = self._base * self.job.factor(self.clock, self._samples)
        self.clock += sum(one.samples + one.refused + one.unread for one in told.values())
        self.batches += sum(one.count for one in told.values())
        dropped = bool(header.flags & Flag.NON_FINITE)
        good = [self.arrived(peer, one) for peer, one in told.items() if one.samples]
        bad = {peer: one.refused for peer, one in told.items() if one.refused}
        for peer, samples in bad.items():
            self.judge.refuse(peer, samples)
        for peer, one in told.items():
            if one.unread:
                self.recorder.skipped(peer, one.unread)
        if dropped:
            self.judge.drop({one.peer: one.header.samples for one in good}, counts=not bad)
        for peer, one in told.items() if good else ():
            self.recorder.received(peer, one.bytes_up)
            self.recorder.replied(peer, one.bytes_down)
        if good and not dropped:
            self.judge.good()
            self.account.add(good, self.steps, self.clock)
            self.steps += 1
            self.transport.trace.add(
                "step", self.transport.trace.now(), self.steps, len(good), sum(one.lineage.samples for one in good), 0
            )
        why = ENDLESS if self.milestones.marks.endless(self.clock) else self.judge.failure
        self.failure = TrainingError(why) if why else None
        if self.keeping and header.kind is Kind.REPORT:
            self.keeping.notice(self._signals.caught is not None)

    def arrived(self, peer: int, told: Told) -> Arrived:
        """A worker's part of a round, as an update of its own."""
        busy = round(1e6 * told.busy)
        header = Header(Kind.UPDATE, samples=told.samples, count=told.count, busy_us=busy)
        return Arrived(Lineage(peer, self.steps, 0, told.samples), header, self.arena, told.sums)

    async def point(self, header: Header) -> None:
        """Pass a point of the run, and tell the workers whether to go on."""
        self.finished = bool(header.count)
        self._figures = json.loads(self.arena.storage[self._nbytes : header.nbytes].numpy().tobytes())
        due = self.milestones.due(self.clock, self.batches, self.finished)
        stop = bool(self.failure) or (due and await self.milestones.reach(self.clock, self.batches, self.finished))
        over = stop or self.finished
        told = self._asked == SIGNALLED or self._signals.caught is not None
        saves = self.failure is None and self.checkpoints.due(over, told)
        leaves = saves and told and not over
        self.over = over or leaves
        kind, flags = Kind.STOP if stop or leaves else Kind.REPLY, Flag.SAVE if saves else Flag.NONE
        self.channel.send(Header(kind, flags), self.transport.storage(HEADER_BYTES))
        if self.keeping and saves:
            await self.keeping.save(self._signals.caught or "a signal" if leaves else None)
