"""The master: deals batches, applies updates to the centre weights, answers with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from nnlo.algos import Lineage
from nnlo.comm.base import Channel, Source, Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.data.dealing import Dealer, Range
from nnlo.errors import NnloError, PeerLost, ProtocolError, TrainingError
from nnlo.flat import HEADER_BYTES
from nnlo.logs import LOG
from nnlo.roles.account import Account
from nnlo.roles.centre import Pinned
from nnlo.roles.judge import Judge
from nnlo.roles.links import Link, links_of
from nnlo.roles.marks import ENDLESS
from nnlo.roles.milestones import Milestones, Owner
from nnlo.roles.prefetch import DEPTH
from nnlo.roles.quorum import Quorum
from nnlo.roles.setup import Setup
from nnlo.roles.stepping import Arrived, Stepper
from nnlo.roles.wires import Wires
from nnlo.training.callbacks import Callbacks
from nnlo.training.history import History
from nnlo.training.job import Job
from nnlo.training.record import Recorder


@dataclass(frozen=True)
class Answer:
    """What a worker is owed: `nbytes` of the centre, or of what a step left for it; the clock that it goes by."""

    kind: Kind
    nbytes: int
    clock: int | None = None
    pinned: Pinned | None = None


STOP = Answer(Kind.STOP, HEADER_BYTES)
Outbox: TypeAlias = "dict[tuple[Link, Answer], dict[int, Header]]"


class Master:
    """The loop of the master of a server algorithm.

    Each worker has at most one message here: it is `pending` until a step takes it in, then the worker
    is `parked` until there is an answer. An asynchronous step takes one update; a synchronous one takes
    those of all workers that still have batches in the epoch. `strangers` have not said hello yet.
    """

    def __init__(
        self, transport: Transport, job: Job, setup: Setup, callbacks: Callbacks, owner: Owner, history: History
    ) -> None:
        self.transport, self.algorithm, self.job = transport, job.server, job
        tree, samples = job.topology.crew, setup.intake.samples
        wires = Wires(job.server, setup.layout, len(job.metric_names), tree.behind)
        self.links = links_of(transport, tree, wires)
        self._link_to = dict(self.links)
        self._link_of, workers = {link.channel: link for link in self.links.values()}, list(self.links)
        place = job.place(0, len(workers), setup.layout, setup.groups)
        self.stepper = Stepper(transport.storage, wires, job.server, place)
        self._began, self._samples = transport.clock(), samples
        self.recorder = Recorder(job.metric_names, self.seconds)
        self.account = Account(self.recorder, callbacks, samples)
        self.judge = Judge(self.recorder, job.max_bad_updates)
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
        self._low_water = max(2 * unit, DEPTH)
        self._weights_bytes, self._reply_bytes = wires.weights_bytes, wires.reply_bytes
        self.clock = self.batches = 0
        self.pending: dict[int, Header] = {}
        self.parked: dict[int, Answer] = {}
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
        for channel in self._link_of:
            channel.post()
        while self.links:
            began = self.transport.trace.now()
            heard = dict.fromkeys(link.channel for link in self.links.values())
            ready = await self.transport.wait([*heard, *self.milestones.sources()])
            self.transport.trace.add("idle", began)
            for source in ready:
                await self.handle(source)
        if not self.finished and not self.stopping:
            self.failure = TrainingError("every worker is lost")
        elif self.milestones.due(self.clock, self.batches, self.finished):
            await self.milestones.reach(self.clock, self.batches, self.finished)
        await self.milestones.settle()
        self.milestones.snapshot.take(self.stepper.centre.arena)

    async def handle(self, source: Source) -> None:
        """Take in one message or one validation, then do what it allows."""
        if not isinstance(source, Channel):
            self.milestones.collect()
            return
        self.take(self._link_of[source])
        while step := self.next_step():
            await self.apply(step)
        self.serve()

    def take(self, link: Link) -> None:
        """Take in a message."""
        try:
            headers = link.take()
        except PeerLost as lost:
            LOG.warning("%s: others take over what it had not done", lost)
            for peer in list(link.workers):
                self.leave(peer)
            return
        for peer, header in headers.items():
            self.hear(peer, header)

    def hear(self, peer: int, header: Header) -> None:
        """Take in what a worker sent."""
        if header.kind is Kind.UPDATE:
            self.take_update(peer, header)
        elif header.kind is Kind.BYE:
            LOG.debug("worker %d leaves", peer)
            self.leave(peer)
        elif header.kind in QUESTIONS:
            self.strangers.discard(peer)
            self.links[peer].settle(peer)
            self.parked[peer] = self.answer(QUESTIONS[header.kind])
        else:
            raise ProtocolError(f"the master got {header.kind.name} from rank {peer}")

    def answer(self, kind: Kind | None) -> Answer:
        """The centre's weights, as a reply or to start from; None for a range of batches alone."""
        return Answer(kind, self._weights_bytes) if kind else Answer(Kind.REPLY, HEADER_BYTES)

    def take_update(self, peer: int, header: Header) -> None:
        if header.count:
            self.dealer.done(peer, Range(header.epoch, header.first, header.count))
        if header.flags & Flag.EXHAUSTED:
            self.dealer.exhaust(peer, header.epoch)
        self.pending[peer] = header
        if self.milestones.marks.endless(self.clock):
            self.fail(ENDLESS)

    def leave(self, peer: int) -> None:
        """A worker is gone, in order or not: the others take over what it had not done."""
        self.links.pop(peer).leave(peer)
        self.strangers.discard(peer)
        answer = self.parked.pop(peer, None)
        if answer and answer.pinned:
            answer.pinned.owed -= 1
        self.dealer.lose(peer)

    def next_step(self) -> list[int]:
        """The workers whose updates make the next step; none where it has to wait."""
        if self.algorithm.backup_workers:
            late = [peer for peer, header in self.pending.items() if not self.stepper.accepts(peer, header)]
            if late:
                return self.together(late)
        return self.together(self.quorum.next(self.pending, self.links, self.strangers))

    def together(self, step: list[int]) -> list[int]:
        """These workers, and those whose updates are combined with theirs."""
        links = [self._link_to[peer] for peer in step]
        return step + [peer for peer in self.pending if peer not in step and self._link_to[peer] in links]

    async def apply(self, step: Sequence[int]) -> None:
        """One step of the centre; the workers are answered before it is accounted for, unless it is a milestone."""
        headers = {peer: self.pending.pop(peer) for peer in step}
        if self.stopping:
            self.release({peer: self.unmoved(header) for peer, header in headers.items()})
            return
        arrived = [self.arrived(peer, header) for peer, header in headers.items()]
        before = self.clock
        self.clock += sum(header.samples for header in headers.values())
        self.batches += sum(header.count for header in headers.values())
        good = [one for one in arrived if self.judge.accepts(one, self.stepper)]
        if self.judge.failure:
            self.fail(self.judge.failure)
        lineages, answers = self.step(good, headers, before)
        number, due = self.stepper.version - 1, self.milestones.due(self.clock, self.batches, self.finished)
        if not due:
            self.release(answers)
        if good:
            self.account.add(good, lineages, number, self.clock)
        if due:
            self.stopping |= await self.milestones.reach(self.clock, self.batches, self.finished)
            self.release(answers)

    def arrived(self, peer: int, header: Header) -> Arrived:
        link = self._link_to[peer]
        return Arrived(peer, link.counted(peer, header), link.arena, link.sums(peer))

    def step(
        self, good: Sequence[Arrived], headers: dict[int, Header], clock: int
    ) -> tuple[list[Lineage], dict[int, Answer | None]]:
        """A step of the centre, at the rate that the schedule has for the clock before it.

        Where updates came from, and how all who sent one are answered.
        """
        if not good:
            return [], {peer: self.unmoved(header) for peer, header in headers.items()}
        began = self.transport.trace.now()
        self.stepper.scale(self.job.factor(clock, self._samples))
        taking = headers if self.algorithm.lockstep else [one.peer for one in good]
        lineages, pinned = self.stepper.step(good, len(self.links), len(taking))
        samples, staleness = sum(one.samples for one in lineages), max(one.delay for one in lineages)
        self.transport.trace.add("step", began, self.stepper.version, len(lineages), samples, staleness)
        moved = Answer(Kind.REPLY, self._reply_bytes, clock if self.algorithm.lockstep else None, pinned)
        answer = None if self.algorithm.pull_first else moved
        return lineages, {p: answer if p in taking else self.unmoved(header) for p, header in headers.items()}

    def unmoved(self, header: Header) -> Answer | None:
        """How an update is answered that was not part of a step; None where its sender expects nothing."""
        if self.algorithm.pull_first and header.nbytes > HEADER_BYTES:
            return None
        fresh = self.algorithm.reply_is_weights or (header.samples and not self.algorithm.lockstep)
        return self.answer(Kind.WEIGHTS if fresh else None)

    def fail(self, reason: str) -> None:
        """Stop, with an error for every rank."""
        self.failure, self.stopping = TrainingError(reason), True

    def release(self, answers: dict[int, Answer | None]) -> None:
        """Make room for these workers' next messages, and answer those who are owed something."""
        for peer, answer in answers.items():
            if peer in self.links:
                self.links[peer].settle(peer)
                if answer:
                    self.parked[peer] = answer
        self.serve()

    def serve(self) -> None:
        """Answer the parked workers that there is an answer for."""
        if self.algorithm.synchronous and (self.strangers or self.silent()):
            return
        outbox: Outbox = {}
        moved = True
        while moved:  # in lockstep, one who has no batch is answered once another one has
            moved = False
            for peer in sorted(self.parked):
                if self.reply(peer, self.parked[peer], outbox):
                    del self.parked[peer]
                    moved = self.algorithm.lockstep
        for (link, answer), headers in outbox.items():
            self.send(link, answer, headers)

    def silent(self) -> bool:
        """Whether a worker is about to ask for its share of an epoch, which goes by rank and not by who asks first."""
        heard = self.parked.keys() | self.pending.keys()
        return self.algorithm.pull_first and any(
            peer not in heard and not self.dealer.outstanding(peer) for peer in self.links
        )

    def reply(self, peer: int, answer: Answer, outbox: Outbox) -> bool:
        """Put what is owed and perhaps a range, or stop, into `outbox`; False where the worker has to wait."""
        if self.stopping or self.finished:
            outbox.setdefault((self.links[peer], STOP), {})[peer] = Header(Kind.STOP)
            return True
        outstanding = self.dealer.outstanding(peer)
        dealt = self.dealer.grant(peer) if outstanding < self._low_water + self.dealer.ahead(peer) else None
        if not outstanding and dealt is None and not (self.algorithm.lockstep and self.dealer.busy):
            return False
        if dealt:
            LOG.debug("worker %d: epoch %d, batches %d to %d", peer, dealt.epoch + 1, dealt.first, dealt.stop - 1)
        outbox.setdefault((self.links[peer], answer), {})[peer] = self.header(answer, dealt or Range(0, 0, 0))
        return True

    def header(self, answer: Answer, dealt: Range) -> Header:
        clock = self.clock if answer.clock is None else answer.clock
        return Header(
            answer.kind, version=self.stepper.version, samples=clock, nbytes=answer.nbytes,
            epoch=dealt.epoch, first=dealt.first, count=dealt.count,
        )  # fmt: skip

    def send(self, link: Link, answer: Answer, headers: Mapping[int, Header]) -> None:
        """One message with one answer to workers behind one link."""
        opening = link.opening(headers)
        if answer.pinned:
            answer.pinned.owed -= len(headers) - 1
            self.stepper.send(link.channel, opening, answer.pinned)
        elif answer.nbytes > HEADER_BYTES:
            self.stepper.centre.send_current(link.channel, opening)
            for peer in headers:
                self.stepper.answered(peer)
        else:
            memory = link.header_memory(self.transport)
            opening.write(memory.numpy().data)
            link.channel.send_written(memory, opening.nbytes)
        if answer is not STOP:
            self.recorder.replied(next(iter(headers)), opening.nbytes)


#: What workers ask for, and what they are answered; None for a range of batches alone.
QUESTIONS: dict[Kind, Kind | None] = {Kind.HELLO: Kind.WEIGHTS, Kind.REQUEST: Kind.REPLY, Kind.IDLE: None}
