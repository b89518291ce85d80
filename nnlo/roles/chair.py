"""Rank 0 where workers exchange among themselves: validates, keeps the history, decides when to stop."""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor

from nnlo.algos import Lineage
from nnlo.comm.base import Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.errors import NnloError, PeerLost, ProtocolError, TrainingError
from nnlo.flat import HEADER_BYTES, Arena
from nnlo.roles.account import Account
from nnlo.roles.chair_losses import ChairLosses
from nnlo.roles.chair_state import ChairState, load
from nnlo.roles.checkpoints import Checkpoints
from nnlo.roles.judge import Judge
from nnlo.roles.losses import Losses
from nnlo.roles.marks import ENDLESS
from nnlo.roles.milestones import Milestones, Owner
from nnlo.roles.notices import Notices
from nnlo.roles.reports import REPORT_BYTES, REPORTS, snapshot_bytes
from nnlo.roles.round import NOTHING, SIGNALLED, Told, record_size
from nnlo.roles.setup import Setup
from nnlo.roles.stepping import Arrived
from nnlo.training.callbacks import Callbacks
from nnlo.training.checkpoint.contents import understood
from nnlo.training.history import History
from nnlo.training.job import Job
from nnlo.training.record import Recorder


class Chair:
    """Takes no part in the maths: the first worker reports every round, and shows the weights at the run's points.

    A round is taken in when all workers are known to have been through it: with the next report, or at a point.
    `workers` are those of the rounds now, some of them perhaps lost, and `rounds` how many were taken in.
    """

    def __init__(
        self, transport: Transport, job: Job, setup: Setup, callbacks: Callbacks, owner: Owner, history: History
    ) -> None:
        self.transport, self.job = transport, job
        self.workers, self._samples = list(transport.peers[1:]), setup.intake.samples
        self.apart = len(setup.intake.pools) > 1
        self._layout, self._nbytes = setup.layout, snapshot_bytes(setup, job, len(self.workers))
        self._record_size = record_size(len(job.metric_names))
        self._records = len(self.workers) * self._record_size
        self.arena = self._listen()
        self._base = job.base_rate(setup.layout, setup.groups)
        self._began = transport.clock()
        self.recorder = Recorder(job.metric_names, self.seconds)
        self.account = Account(self.recorder, callbacks, self._samples)
        self.losses = Losses(job, history, self.seconds, transport.clock)
        self.judge = Judge(self.recorder, job.max_bad_updates, job.algorithm.rate_flag)
        self.milestones = Milestones(transport, job, setup, self, self.recorder, callbacks, owner, history, self)
        self.milestones.snapshot.put(self.arena)
        self.clock = self.batches = self.steps = self.rounds = 0
        self._held: tuple[list[Told], int] | None = None
        self.leaving = ChairLosses(self)
        self.rate = self._base
        self._figures: dict[str, Any] = {}
        self.finished = self.over = False
        self.failure: NnloError | None = None
        self.checkpoints = Checkpoints(transport, job, setup, self.milestones, owner, history, self.seconds)
        self.keeping = ChairState(self, setup) if setup.keeps else None
        self._owner, self._notices = owner, Notices(transport)
        self._notices.open(self.workers[0])
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
        await self.leaving.begin()
        if self.keeping and self.restored:
            await self.keeping.hand_out(self.restored)
        self.channel.post()
        while self.leaving.present:
            await self.arrival()
            await self.hear()
            await self.leaving.hear()
        await self.checkpoints.written()
        self.milestones.snapshot.take(self.arena)
        if self.failure is None:
            self.turns.end(self.arena)

    def _listen(self) -> Arena:
        """Let the first worker report; where it shows the weights."""
        self.channel, self._hears = self.transport.channel(self.workers[0], REPORTS, self._nbytes + REPORT_BYTES), True
        return Arena(self._layout, self._records, self.channel.incoming)

    async def arrival(self) -> None:
        """Wait for a message, and take in validations that end meanwhile."""
        began = self.transport.trace.now()
        reports = [self.channel] if self._hears else []
        sources = [*reports, *self.leaving.sources(), *self.milestones.sources()]
        ready = await self.transport.wait(sources, self.losses.deadline())
        self.transport.trace.add("idle", began)
        if not ready:
            self.losses.silence([peer for peer in self.leaving.present if peer not in self.leaving.stopped])
        self.milestones.collect()

    async def hear(self) -> None:
        """Take in what the first worker has to report."""
        if not (self._hears and self.channel.ready):
            return
        try:
            header = self.channel.take()
        except PeerLost:  # which is heard from itself
            self._hears = False
            return
        told = self.told(header)
        self._asked = max(one.asks for one in told)
        self.release()
        if header.kind is Kind.SNAPSHOT:
            self.account_for(told, header.flags)
            await self.point(header)
        else:
            self._held = told, header.flags
            if self._owner.stop_at_once or self.checkpoints.due(False, self._signals.caught is not None):
                self._notices.send()
        self._hears = not self.over
        if self._hears:
            self.channel.post()

    def told(self, header: Header) -> list[Told]:
        """What each of the workers did."""
        if header.kind not in (Kind.REPORT, Kind.SNAPSHOT):
            raise ProtocolError(f"rank 0 got {header.kind.name} from rank {self.channel.peer}")
        return [
            Told.read(record) for record in self.arena.sums.view(-1, self._record_size)[: len(self.workers)].tolist()
        ]

    def release(self) -> None:
        """Take in the round that was held back."""
        held, self._held = self._held, None
        if held is not None:
            self.account_for(*held)

    def account_for(self, records: list[Told], flags: int) -> None:
        """Take in what the workers did in a round."""
        told = dict(zip(self.workers, records, strict=True))
        self.rounds += 1
        self.rate = self._base * self.job.factor(self.clock, self._samples)
        self.clock += sum(one.samples + one.refused + one.unread for one in told.values())
        self.batches += sum(one.count for one in told.values())
        dropped = bool(flags & Flag.NON_FINITE)
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
        self.failure = TrainingError(why) if why else self.failure

    def arrived(self, peer: int, told: Told) -> Arrived:
        """A worker's part of a round, as an update of its own."""
        busy = round(1e6 * told.busy)
        header = Header(Kind.UPDATE, samples=told.samples, count=told.count, busy_us=busy)
        return Arrived(Lineage(peer, self.steps, 0, told.samples), header, self.arena, told.sums)

    async def point(self, header: Header) -> None:
        """Pass a point of the run, and tell the workers whether to go on."""
        self._notices.heard()
        self._figures = json.loads(self.arena.storage[self._nbytes : header.nbytes].numpy().tobytes())
        stop = await self.stops(bool(header.count))
        over = stop or self.finished
        told = self._asked == SIGNALLED or self._signals.caught is not None
        saves = self.failure is None and self.checkpoints.due(over, told)
        leaves = saves and told and not over
        self.over = over or leaves
        kind, flags = Kind.STOP if stop or leaves else Kind.REPLY, Flag.SAVE if saves else Flag.NONE
        self.channel.send(Header(kind, flags), self.transport.storage(HEADER_BYTES))
        if self.keeping and saves:
            await self.keeping.save(self._signals.caught or "a signal" if leaves else None)

    async def stops(self, finished: bool) -> bool:
        """Pass a point of the run, if this is one, with the weights of the arena; whether training is to stop here."""
        self.finished = finished
        due = self.milestones.due(self.clock, self.batches, finished)
        stopped = bool(self.failure) or (due and await self.milestones.pass_all(self.clock, self.batches, finished))
        return stopped or self._owner.stop_at_once

    @property
    def weights(self) -> dict[str, Tensor]:
        """With the buffers, as they were shown last."""
        return {name: getattr(self.arena, name) for name in ("vector", "buffers", "counters")}

    # After a loss.

    def knows(self, rounds: int) -> bool:
        """Whether so many rounds have been reported."""
        return self.rounds + (self._held is not None) >= rounds

    async def catch_up(self, rounds: int) -> None:
        """Hear what the first worker has said about so many rounds; it may have been lost before it did."""
        while self._hears and not self.knows(rounds):
            if not await self.transport.wait([self.channel], self.losses.deadline()):
                self.losses.silence([self.channel.peer])
            await self.hear()

    async def be_at(self, position: dict[str, Any], state: dict[str, Any] | None) -> None:
        """So far have the workers come together, the first of them lost perhaps before it could report that."""
        if self.rounds < position["rounds"]:
            self.release()
        self._held = None
        if self.rounds < position["rounds"] and state is not None:
            for name, memory in self.weights.items():
                memory.copy_(state[name])
            self.account_for([Told.read(record) for record in state["told"]], state["flags"])
            self.rounds, self.clock, self.batches = (
                position["rounds"],
                state["alike"]["clock"],
                state["alike"]["batches"],
            )
            self._figures = state["figures"]
            self.over = await self.stops(position["epoch"] == self.job.epochs) or self.finished

    def gather(self, workers: list[int]) -> None:
        """These are left, and go on."""
        first, self.workers = self.workers[0], workers
        if workers[0] != first:
            before, self.arena = self.arena, self._listen()
            self.arena.copy_body(before)
            self.channel.post()
        self._notices.open(workers[0])
