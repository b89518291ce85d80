"""The master: deals batches, applies updates to the centre weights, answers with them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from nnlo.algos import Lineage
from nnlo.comm.base import Channel, Source, Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.data.dealing import Dealer, Range
from nnlo.errors import NnloError, PeerLost, ProtocolError, TrainingError
from nnlo.flat import HEADER_BYTES, Arena
from nnlo.logs import LOG
from nnlo.roles.account import Account
from nnlo.roles.milestones import Milestones, Owner
from nnlo.roles.prefetch import DEPTH
from nnlo.roles.setup import Setup
from nnlo.roles.stepping import Arrived, Stepper
from nnlo.roles.worker import EXCHANGE
from nnlo.training.callbacks import Callbacks
from nnlo.training.history import History
from nnlo.training.job import Job
from nnlo.training.record import Recorder

#: Non-finite updates in a row that end a job.
MOST_BAD_UPDATES = 10
#: Times the expected samples after which a user's generator is taken to have no end.
RUNAWAY = 2


class Master:
    """The loop of the master of a server algorithm.

    Each worker has at most one message here: it is `pending` until a step takes it in, then the worker
    is `parked` until there is an answer. An asynchronous step takes one update; a synchronous one takes
    those of all workers that still have batches in the epoch. `strangers` have not said hello yet.
    """

    def __init__(
        self, transport: Transport, job: Job, setup: Setup, callbacks: Callbacks, owner: Owner, history: History
    ) -> None:
        self.transport, self.synchronous = transport, job.algorithm.synchronous
        workers, nbytes, sums = transport.peers[1:], setup.arena_bytes(job), len(job.metric_names)

        def arena(storage: Tensor) -> Arena:
            return Arena(setup.layout, sums, storage)

        self.channels = {peer: transport.channel(peer, EXCHANGE, nbytes) for peer in workers}
        self._peer_of = {channel: peer for peer, channel in self.channels.items()}
        self.inbox = {peer: arena(channel.incoming) for peer, channel in self.channels.items()}
        vector = self.inbox[workers[0]].vector
        self.optimizer = job.optimizer.build(vector, setup.groups) if job.optimizer else None
        self._schedule, self._epochs, self._samples = job.schedule, job.epochs, setup.intake.samples
        self.stepper = Stepper(lambda: arena(transport.storage(nbytes)), job.algorithm, self.optimizer)
        self._began = transport.clock()
        self.recorder = Recorder(job.metric_names, self.seconds)
        self.account = Account(self.recorder, callbacks, setup.intake.samples)
        centre = self.stepper.centre
        self.milestones = Milestones(transport, job, setup, centre, self.recorder, callbacks, owner, history, self.rate)
        self.milestones.snapshot.put(centre.arena)
        unit, grain = job.algorithm.sync_every, setup.intake.grain
        self.dealer = Dealer(
            setup.intake.pools, workers, job.epochs, grain=grain, unit=unit, synchronous=self.synchronous,
            most_ahead=setup.intake.ahead,
        )  # fmt: skip
        self._low_water, self._nbytes = max(2 * unit, DEPTH), nbytes
        self._most_samples = RUNAWAY * job.epochs * setup.intake.samples
        self.clock = self.batches = self._bad_in_a_row = self._refused = 0
        self.pending: dict[int, Header] = {}
        self.parked: set[int] = set()
        self.strangers = set(workers)
        self.stopping = False
        self.failure: NnloError | None = None

    def seconds(self) -> float:
        """The training clock."""
        return self.transport.clock() - self._began

    def rate(self) -> float:
        """The learning rate of the last step, NaN where the mode has none."""
        return self.optimizer.lr if self.optimizer else math.nan

    async def run(self) -> None:
        """Serve until every worker has left."""
        for channel in self.channels.values():
            channel.post()
        while self.channels:
            began = self.transport.trace.now()
            ready = await self.transport.wait([*self.channels.values(), *self.milestones.sources()])
            self.transport.trace.add("idle", began)
            for source in ready:
                await self.handle(source)
        if not self.dealer.finished and not self.stopping:
            self.failure = TrainingError("every worker is lost")
        elif self.milestones.due(self.clock, self.batches, self.dealer.finished):
            await self.milestones.reach(self.clock, self.batches, self.dealer.finished)
        await self.milestones.settle()
        self.milestones.snapshot.take(self.stepper.centre.arena)

    async def handle(self, source: Source) -> None:
        """Take in one message or one validation, then do what it allows."""
        if not isinstance(source, Channel):
            self.milestones.collect()
            return
        self.take(self._peer_of[source])
        while step := self.next_step():
            await self.apply(step)
        self.serve()

    def take(self, peer: int) -> None:
        """Take in what a worker sent."""
        try:
            header = self.channels[peer].take()
        except PeerLost as lost:
            LOG.warning("%s: others take over what it had not done", lost)
            self.leave(peer)
            return
        if header.kind is Kind.BYE:
            LOG.debug("worker %d leaves", peer)
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
        if self.clock > self._most_samples:
            self.fail("generate_data() yields far more than count_data() says: it must return after one epoch")

    def leave(self, peer: int) -> None:
        """A worker is gone, in order or not: the others take over what it had not done."""
        del self.channels[peer]
        self.strangers.discard(peer)
        self.parked.discard(peer)
        self.dealer.lose(peer)

    def next_step(self) -> list[int]:
        """The workers whose updates make the next step; none where it has to wait."""
        if not self.synchronous:
            return list(self.pending)[:1]
        awaited = [peer for peer in self.channels if peer not in self.pending and self.dealer.outstanding(peer)]
        return [] if awaited or self.strangers else sorted(self.pending)

    async def apply(self, step: Sequence[int]) -> None:
        """One step of the centre; the workers are answered before it is accounted for, unless it is a milestone."""
        headers = {peer: self.pending.pop(peer) for peer in step}
        if self.stopping:
            self.release(step)
            return
        arrived = [Arrived(p, h, self.inbox[p], self.inbox[p].sums.tolist()) for p, h in headers.items()]
        before = self.clock
        self.clock += sum(header.samples for header in headers.values())
        self.batches += sum(header.count for header in headers.values())
        good = [one for one in arrived if self.accepted(one)]
        lineages = self.step(good, before) if good else []
        finished, clock, number = self.dealer.finished, self.clock, self.stepper.version - 1
        due = self.milestones.due(clock, self.batches, finished)
        if not due:
            self.release(step)
        if good:
            self.account.add(good, lineages, number, clock)
        if due:
            self.stopping |= await self.milestones.reach(clock, self.batches, finished)
            self.release(step)

    def step(self, arrived: Sequence[Arrived], clock: int) -> list[Lineage]:
        """A step of the centre, at the rate that the schedule has for the clock before it; where updates came from."""
        began = self.transport.trace.now()
        if self.optimizer:
            self.optimizer.scale(self._schedule.factor(clock / self._samples, self._epochs))
        lineages = self.stepper.step(arrived, len(self.channels))
        samples, staleness = sum(one.samples for one in lineages), max(one.delay for one in lineages)
        self.transport.trace.add("step", began, self.stepper.version, len(lineages), samples, staleness)
        return lineages

    def accepted(self, one: Arrived) -> bool:
        """Whether this update is to be applied; refused ones are counted, and too many in a row end the job."""
        if one.finite:
            self._bad_in_a_row = 0 if one.header.samples else self._bad_in_a_row
            return one.header.samples > 0
        self.recorder.refused(one.peer, one.header.samples)
        self._bad_in_a_row += 1
        self._refused += 1
        if self._refused.bit_count() == 1:  # the 1st, 2nd, 4th, 8th ...: many would flood the log
            LOG.warning("an update of rank %d is inf or nan and refused: %d until now", one.peer, self._refused)
        if self._bad_in_a_row >= MOST_BAD_UPDATES:
            self.fail(
                f"{MOST_BAD_UPDATES} updates in a row were inf or nan, the last from rank {one.peer}: lower --lr, "
                "or look for such values in the data"
            )
        return False

    def fail(self, reason: str) -> None:
        """Stop, with an error for every rank."""
        self.failure, self.stopping = TrainingError(reason), True

    def release(self, step: Sequence[int]) -> None:
        """Make room for these workers' next messages, and answer."""
        for peer in step:
            if peer in self.channels:
                self.channels[peer].post()
                self.parked.add(peer)
        self.serve()

    def serve(self) -> None:
        """Answer the parked workers that there is an answer for."""
        if self.synchronous and self.strangers:
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
        dealt = self.dealer.grant(peer) if outstanding < self._low_water + self.dealer.ahead(peer) else None
        if not outstanding and dealt is None:
            return False
        if dealt:
            LOG.debug("worker %d: epoch %d, batches %d to %d", peer, dealt.epoch + 1, dealt.first, dealt.stop - 1)
        dealt = dealt or Range(0, 0, 0)
        header = Header(
            Kind.REPLY,
            version=self.stepper.version,
            nbytes=self._nbytes,
            epoch=dealt.epoch,
            first=dealt.first,
            count=dealt.count,
        )
        self.stepper.centre.send(self.channels[peer], header)
        self.recorder.replied(peer, header.nbytes)
        return True
