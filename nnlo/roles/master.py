"""The master: deals batches, applies updates to the centre weights, answers with them."""

from __future__ import annotations

from collections.abc import Sequence

from nnlo.comm.base import Source, Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.data.dealing import Dealer, Range
from nnlo.errors import NnloError, PeerLost, ProtocolError, TrainingError
from nnlo.logs import LOG
from nnlo.roles.account import Account
from nnlo.roles.answers import QUESTIONS, Answer, Answers
from nnlo.roles.checkpoints import Checkpoints, preempted
from nnlo.roles.judge import Judge
from nnlo.roles.links import Link, links_of
from nnlo.roles.losses import Losses
from nnlo.roles.marks import ENDLESS
from nnlo.roles.milestones import Milestones, Owner
from nnlo.roles.quorum import Quorum
from nnlo.roles.saving import Saving
from nnlo.roles.setup import Setup
from nnlo.roles.stepping import Arrived, Stepper
from nnlo.roles.wires import Wires
from nnlo.training.callbacks import Callbacks
from nnlo.training.checkpoint.contents import understood
from nnlo.training.history import History
from nnlo.training.job import Job
from nnlo.training.record import Recorder


class Master:
    """The loop of the master of a server algorithm.

    Each worker has one update at most here: it is `pending` until a step takes it in, then the worker
    waits among the `answers`. What one says that goes on without an answer is heard `afterwards`. An asynchronous
    step takes one update; a synchronous one takes those of all workers that still have batches in the epoch.
    `strangers` have not said hello yet.
    """

    def __init__(
        self, transport: Transport, job: Job, setup: Setup, callbacks: Callbacks, owner: Owner, history: History
    ) -> None:
        self.transport, self.algorithm, self.job = transport, job.server, job
        self.owner = owner
        tree, samples = job.topology.crew, setup.intake.samples
        wires = Wires(job.server, setup.layout, len(job.metric_names), tree.behind)
        self.links = links_of(transport, tree, wires)
        self._link_to, self._heard = dict(self.links), dict.fromkeys(link.channel for link in self.links.values())
        self._link_of: dict[Source, Link] = {link.channel: link for link in self.links.values()}
        workers = list(self.links)
        place = job.place(0, len(workers), setup.layout, setup.groups)
        self.stepper = Stepper(transport.storage, wires, job.server, place, setup.common)
        self._began, self._samples = transport.clock(), samples
        self.recorder = Recorder(job.metric_names, self.seconds)
        self.account = Account(self.recorder, callbacks, samples)
        self.losses = Losses(job, history, self.seconds, transport.clock)
        self.judge = Judge(self.recorder, job.max_bad_updates, job.algorithm.rate_flag)
        centre = self.stepper.centre
        self.milestones = Milestones(
            transport, job, setup, centre, self.recorder, callbacks, owner, history, self.stepper
        )
        self.milestones.snapshot.put(centre.arena)
        unit, grain = job.algorithm.sync_every, setup.intake.grain
        self.dealer = Dealer(
            setup.intake.pools, workers, job.epochs, grain=grain, unit=unit, synchronous=job.algorithm.synchronous,
            evenly=not job.server.backup_workers, most_ahead=setup.intake.ahead,
        )  # fmt: skip
        self.quorum = Quorum(job.server, self.dealer.outstanding)
        self.answers = Answers(transport, job.server, self.dealer, self.stepper, self.recorder, self.links, wires)
        self.clock = self.batches = 0
        self.checkpoints = Checkpoints(transport, job, setup, self.milestones, owner, history, self.seconds)
        self.restored, self.saving, self.turns = setup.restored, Saving(self, setup), setup.turns
        if self.restored:
            with understood(self.restored.saved.folder):
                self._began -= self.restored.master["seconds"]
                self.saving.load_state_dict(self.restored)
        self.pending: dict[int, Header] = {}
        self.afterwards: dict[int, Header] = {}
        self.strangers = set(workers)
        self.stopping = False
        self.failure: NnloError | None = None

    def seconds(self) -> float:
        """The training clock."""
        return self.transport.clock() - self._began

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.dealer.finished

    async def run(self) -> None:
        """Serve until every worker has left."""
        self.checkpoints.tell("running")
        if self.restored:
            await self.saving.hand_out(self.restored)
        for link in self._link_of.values():
            link.channel.post()
        while self.links:
            began = self.transport.trace.now()
            listens = self.turns.of(self._heard, self.answers.parked)
            ready = await self.transport.wait([*listens, *self.milestones.sources()], self.losses.deadline())
            self.transport.trace.add("idle", began)
            if not ready and (silent := [peer for peer in self.links if peer not in self.answers.parked]):
                self.losses.silence(silent)
            for source in ready:
                await self.handle(source)
        if not (self.finished or self.stopping):
            self.failure = TrainingError("every worker is lost")
        elif self.milestones.due(self.clock, self.batches, self.finished):
            await self.milestones.pass_all(self.clock, self.batches, self.finished)
        await self.checkpoints.written()
        self.milestones.snapshot.take(self.stepper.centre.arena)
        if self.failure is None:
            self.turns.end(self.stepper.centre.arena)

    async def handle(self, source: Source) -> None:
        """Take in one message or one validation, then do what it allows."""
        link = self._link_of.get(source)
        if link is None:
            self.milestones.collect()
            return
        self.take(link)
        while self.pending and (step := self.next_step()):
            await self.apply(step)
            if self.afterwards:
                for peer in self.afterwards.keys() - self.pending.keys():
                    self.hear(peer, self.afterwards.pop(peer))
        await self.saving.complete()
        self.serve()
        link.put_aside()

    def take(self, link: Link) -> None:
        """Take in a message."""
        try:
            headers = link.take()
        except PeerLost as lost:
            self.turns.lost(link.channel)
            self.lose(list(link.workers), lost)
            return
        self.turns.takes(link.channel)
        speaking = [peer for peer, header in headers.items() if header.kind is not Kind.BYE]
        if speaking:
            self.recorder.received(speaking[0], link.nbytes)
        for peer, header in headers.items():
            self.hear(peer, header)

    def hear(self, peer: int, header: Header) -> None:
        """Take in what a worker sent."""
        if header.flags & Flag.SIGNALLED:
            self.saving.signalled = True
        if peer in self.pending:
            self.links[peer].settle(peer)
            self.afterwards[peer] = header
        elif header.kind is Kind.UPDATE:
            self.take_update(peer, header)
        elif header.kind is Kind.STATE:
            self.links[peer].settle(peer)
            self.saving.quiet.add(peer)
        elif header.kind is Kind.BYE:
            LOG.debug("worker %d leaves", peer)
            if header.flags & Flag.LOST:
                self.lose([peer], PeerLost(peer))
            else:
                self.leave(peer)
        elif header.kind in QUESTIONS:
            self.strangers.discard(peer)
            self.links[peer].settle(peer)
            moves = header.kind is Kind.HELLO and self.stepper.moves and peer in self.saving.owed
            self.answers.parked[peer] = self.answers.move if moves else self.answers.answer(QUESTIONS[header.kind])
        else:
            raise ProtocolError(f"the master got {header.kind.name} from rank {peer}")

    def take_update(self, peer: int, header: Header) -> None:
        if header.count:
            self.dealer.done(peer, Range(header.epoch, header.first, header.count))
        if header.flags & Flag.EXHAUSTED:
            self.dealer.exhaust(peer, header.epoch)
        self.pending[peer] = header
        if self.milestones.marks.endless(self.clock):
            self.fail(ENDLESS)

    def lose(self, workers: Sequence[int], lost: PeerLost) -> None:
        """These workers are gone without a word."""
        for peer in workers:
            self.leave(peer)
        if reason := self.losses.note(workers, lost, len(self.links), self.clock):
            self.fail(reason)

    def leave(self, peer: int) -> None:
        """A worker is gone, in order or not: the others take over what it had not done."""
        self.links.pop(peer).leave(peer)
        self._heard = dict.fromkeys(link.channel for link in self.links.values())
        self.strangers.discard(peer)
        self.afterwards.pop(peer, None)
        self.answers.drop(peer)
        self.saving.quiet.discard(peer)
        self.dealer.lose(peer)

    def next_step(self) -> list[int]:
        """The workers whose updates make the next step; none where it has to wait."""
        if self.algorithm.backup_workers:
            coming = [self.stepper.lineage(peer, header) for peer, header in self.pending.items()]
            late = [one.sender for one in coming if not self.stepper.accepts(one)]
            if late:
                return self.together(late)
        return self.together(self.quorum.next(self.pending, self.links, self.strangers))

    def together(self, step: list[int]) -> list[int]:
        """These workers, and those whose updates are combined with theirs."""
        if len(step) == len(self.pending):
            return step
        arenas = {id(self._link_to[peer].arena(peer)) for peer in step}
        others = (peer for peer in self.pending if peer not in step)
        return step + [peer for peer in others if id(self._link_to[peer].arena(peer)) in arenas]

    async def apply(self, step: Sequence[int]) -> None:
        """One step of the centre; the workers are answered before it is accounted for, unless it is a milestone."""
        headers = {peer: self.pending.pop(peer) for peer in step}
        if self.stopping:
            self.release({peer: self.answers.unmoved(header) for peer, header in headers.items()})
            return
        arrived = [self.arrived(peer, header) for peer, header in headers.items()]
        before = self.clock
        for header in headers.values():
            self.clock, self.batches = self.clock + header.samples, self.batches + header.count
        good = [one for one in arrived if self.judge.accepts(one, self.stepper)]
        if self.judge.failure:
            self.fail(self.judge.failure)
        answers = self.step(good, headers, before)
        number, due = self.stepper.version - 1, self.milestones.due(self.clock, self.batches, self.finished)
        if not due:
            self.saving.consider()
            self.stopping |= self.owner.stop_at_once and not self.saving.under_way
            self.release(answers)
        if good:
            self.account.add(good, number, self.clock)
        if due:
            self.stopping |= await self.milestones.pass_all(self.clock, self.batches, self.finished)
            self.saving.consider()
            self.release(answers)

    def arrived(self, peer: int, header: Header) -> Arrived:
        link = self._link_to[peer]
        return Arrived(self.stepper.lineage(peer, header), header, link.arena(peer), link.sums(peer))

    def step(self, good: Sequence[Arrived], headers: dict[int, Header], clock: int) -> dict[int, Answer | None]:
        """A step of the centre, at the rate of the schedule for the clock before it; how all who sent are answered."""
        if not good:
            return {peer: self.answers.unmoved(header) for peer, header in headers.items()}
        began = self.transport.trace.now()
        self.stepper.scale(self.job.factor(clock, self._samples))
        taking = headers if len(good) == len(headers) or self.algorithm.lockstep else {one.peer for one in good}
        pinned = self.stepper.step(good, len(self.links), len(self.links.keys() & taking))
        if self.transport.trace.on:
            samples, staleness = sum(one.lineage.samples for one in good), max(one.lineage.delay for one in good)
            self.transport.trace.add("step", began, self.stepper.version, len(good), samples, staleness)
        moved, unmoved = self.answers.moved(pinned, clock), self.answers.unmoved
        return {peer: moved if peer in taking else unmoved(header) for peer, header in headers.items()}

    def fail(self, reason: str) -> None:
        """Stop, with an error for every rank."""
        self.failure, self.stopping = TrainingError(reason), True

    def preempt(self, signal: str, checkpoint: str | None) -> None:
        """Leave, since the job was told to."""
        self.failure, self.stopping = preempted(signal, checkpoint), True

    def release(self, answers: dict[int, Answer | None]) -> None:
        """Make room for these workers' next messages, and answer those who are owed something."""
        for peer, answer in answers.items():
            if peer in self.links:
                self.links[peer].settle(peer)
                if answer:
                    self.answers.parked[peer] = answer
        self.serve()

    def serve(self) -> None:
        """Answer those workers that there is an answer for."""
        if not (self.algorithm.synchronous and self.strangers):
            self.answers.serve(self.clock, self.stopping, self.pending)
