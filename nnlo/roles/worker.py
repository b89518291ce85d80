"""A worker: reads batches, computes gradients, exchanges updates for weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from nnlo.comm.base import Send, Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.compress import Compressor
from nnlo.data.dealing import Range
from nnlo.errors import PeerLost, ProtocolError
from nnlo.flat import HEADER_BYTES, finite
from nnlo.logs import LOG
from nnlo.roles.computing import Work
from nnlo.roles.parcels import Parcels
from nnlo.roles.setup import Setup
from nnlo.roles.sharing import computing
from nnlo.roles.wires import Wires
from nnlo.roles.worker_state import WorkerState
from nnlo.training.job import Job

MASTER = 0
EXCHANGE = 1  # the tag of the channel between a worker and its master


class UnderWay(NamedTuple):
    """A message that is to be answered, and when it was begun."""

    header: Header
    sent: Send
    began: float


class Worker:
    """The loop of one worker of a server algorithm.

    Where the algorithm allows, the gradient is written by the backward pass into the memory that is
    sent, and the reply arrives in the memory that the model computes with.
    """

    def __init__(self, transport: Transport, job: Job, setup: Setup) -> None:
        self.transport, self.algorithm = transport, job.server
        self.wires = wires = Wires(job.server, setup.layout, len(job.metric_names))
        tree = job.topology.crew
        node = tree.nodes[transport.rank]
        self.channel = transport.channel(transport.peers[node.parent or MASTER], EXCHANGE, wires.answer_bytes)
        answers = self.channel.incoming if setup.common is None else setup.common
        self.weights, self.reply = wires.weights(answers), wires.reply(answers)
        memory = transport.storage if job.server.recalls or job.server.pipelined else self.channel.slot
        self.up = wires.update(memory(wires.update_bytes))
        place = job.place(node.worker, tree.workers, setup.layout, setup.groups)
        self.update = torch.zeros_like(self.weights.vector) if wires.up else self.up.vector
        self.x = self.weights.vector if self.algorithm.reply_is_weights else torch.zeros_like(self.update)
        self.gradient = self.update if self.algorithm.gradient_is_update else torch.zeros_like(self.x)
        feedback, hears = self.algorithm.feedback, self.algorithm.hears_sent
        self.compressor = Compressor(wires.up, feedback, place.stream, tells=hears) if wires.up else None
        self.decoded = wires.down and (wires.down, torch.zeros_like(self.x))
        self.computing = computing(transport, job, setup, self.x, self.gradient, self.up, self.up.sums)
        self.keeping = WorkerState(self, Parcels(transport, transport.peers[MASTER])) if setup.keeps else None
        self._restores, self._signals = setup.restores, setup.signals
        self.held: Header | None = None  # an answer that is there and is taken in later
        self.waits = False
        self.state = self.algorithm.init(self.x, self.update, place)
        self._factor = partial(job.factor, samples=setup.intake.samples)
        self.version, self.factor = 0, 1.0

    async def run(self) -> None:
        """Train until the master says stop, or is lost where it stands between this worker and the first one."""
        try:
            reply = await self.begin()
            while reply.kind is not Kind.STOP:
                self.take_in(reply)
                reply = await self.go_on(reply)
            await self.send(Header(Kind.BYE))
        except PeerLost as lost:
            if lost.peer == self.transport.peers[MASTER]:
                raise
            LOG.warning("%s: worker %d has nobody to train for", lost, self.transport.id)
        await self.computing.end()

    async def begin(self) -> Header:
        """Say hello; the answer, or where a checkpoint is restored that to the first update after it."""
        saved = await self.keeping.received() if self.keeping and self._restores else None
        reply = await self.exchange(Header(Kind.HELLO))
        if saved is None or self.keeping is None or reply.kind is Kind.STOP:
            return reply
        if saved["owed"]:
            await self.keeping.load_state_dict(saved, reply)
            return reply
        self.take_in(reply)
        await self.keeping.load_state_dict(saved, reply)
        self.wake(reply)
        return await self.go_on(reply)

    async def go_on(self, reply: Header) -> Header:
        """What is to be done after this reply; the answer."""
        if not reply.flags & Flag.SAVE:
            return await self.step()
        waits, empty = not self.computing.prefetch.ranges, reply.nbytes == HEADER_BYTES
        self.waits = waits and not empty and not self.algorithm.lockstep
        told = await self.show(owed=waits and empty and self.algorithm.catches_up)
        self.wake(told)
        return told

    def wake(self, told: Header) -> None:
        """What counts for a worker that waited, with its answer taken in, is when it is dealt batches."""
        if self.waits and told.kind is not Kind.STOP:
            self.version = told.version
            self.scale(self._factor(told.samples))
        self.waits = False

    async def step(self) -> Header:
        """Compute an update and send it; the answer."""
        header = await self.work()
        asks = self.algorithm.pull_first and header.nbytes > HEADER_BYTES
        return await (self.pull_then_push(header) if asks else self.exchange(header))

    async def exchange(self, header: Header) -> Header:
        """Send a message; its answer."""
        began = self.transport.trace.now()
        self.channel.post()
        message = UnderWay(header, self.leave(header), began)
        self.computing.prefetch.prepare()
        return await self.answer(message)

    async def answer(self, message: UnderWay) -> Header:
        """What a message is answered; what it left from may be written again."""
        trace, sent = self.transport.trace, message.sent
        waited = trace.now()
        await self.transport.wait([self.channel])
        trace.add("reply wait", waited)
        if not sent.ready:
            waited = trace.now()
            await self.transport.wait([sent])
            trace.add("send wait", waited)
        reply = self.channel.take()
        trace.add("exchange", message.began, message.header.nbytes, message.header.version, reply.version)
        return reply

    async def send(self, header: Header) -> None:
        """Send a message that is not answered."""
        sent = self.leave(header)
        if not sent.ready:
            await self.transport.wait([sent])

    def leave(self, header: Header) -> Send:
        self.signed(header).write(self.up.memory)
        return self.channel.send_written(self.up.storage, header.nbytes)

    def signed(self, header: Header) -> Header:
        """The header, and in it whether this rank was told to leave."""
        return replace(header, flags=header.flags | Flag.SIGNALLED) if self._signals.caught else header

    async def pull_then_push(self, header: Header) -> Header:
        """Take in the centre's weights, send the update that they make; what says how to go on."""
        reply = await self.exchange(Header(Kind.REQUEST, version=self.version))
        if reply.kind is Kind.STOP:
            return reply
        self.take_in(reply)
        update = self.sealed(header)
        if update.nbytes == HEADER_BYTES:
            return await self.exchange(update)
        await self.send(update)
        if reply.flags & Flag.SAVE:
            return await self.show()
        if self.computing.prefetch.ranges:
            return Header(Kind.REPLY)
        return await self.exchange(Header(Kind.IDLE, version=self.version))

    # Checkpoints.

    async def show(self, owed: bool = False) -> Header:
        """Send what this worker has into a checkpoint; the answer. owed: its weights come when it is dealt batches."""
        assert self.keeping is not None
        began = self.transport.trace.now()
        self.channel.post()
        message = UnderWay(Header(Kind.STATE), self.leave(Header(Kind.STATE)), began)
        await self.keeping.show(owed)
        return await self.answer(message)

    def take_in(self, reply: Header) -> None:
        if reply.kind not in (Kind.REPLY, Kind.WEIGHTS):
            raise ProtocolError(f"rank {self.transport.id} expected a reply, not {reply.kind.name}")
        if reply.nbytes > HEADER_BYTES or self.algorithm.in_place:
            self.version = reply.version
            self.scale(self._factor(reply.samples))
            if reply.kind is Kind.WEIGHTS:
                self.algorithm.start(self.x, self.weights.vector, self.state)
            else:
                self.algorithm.receive(self.x, self.vector(), self.state)
            self.take_buffers(reply.kind)
        self.take_range(reply)

    def take_range(self, reply: Header) -> None:
        if reply.count:
            self.computing.add(Range(reply.epoch, reply.first, reply.count))

    def take_buffers(self, kind: Kind) -> None:
        """The centre's statistics, but where a worker keeps weights or statistics of its own, apart from the centre."""
        algorithm = self.algorithm
        if kind is Kind.WEIGHTS or not (algorithm.pull_first or algorithm.answers_before or algorithm.in_place):
            body = self.weights if kind is Kind.WEIGHTS else self.reply
            self.up.buffers.copy_(body.buffers)
            self.computing.flat.write_counters(body.counters)

    def vector(self) -> Tensor:
        """What the reply says."""
        if not self.decoded:
            return self.weights.vector
        codec, out = self.decoded
        codec.decode(self.reply.payload, out)
        return out

    def scale(self, factor: float) -> None:
        """The schedule's factor from now on; residuals of gradients that are still to be sent keep their worth."""
        if factor != self.factor:
            if self.compressor and self.algorithm.sends_gradient:
                self.compressor.scale(factor)
            self.algorithm.scale(factor, self.state)
            self.factor = factor

    async def work(self) -> Header:
        """Compute one update, from at most `sync_every` batches of one range; its header."""
        if not self.computing.prefetch.ranges:  # where every worker takes part in every step
            return Header(Kind.UPDATE, version=self.version)
        algorithm, x, state = self.algorithm, self.x, self.state
        done = await self.computing.work(
            algorithm.sync_every,
            lambda samples: algorithm.probe(x, state),
            lambda samples: algorithm.local(x, self.gradient, samples, state),
        )
        header = self.header_of(done)
        return self.sealed(header) if done.samples and not algorithm.pull_first else header

    def header_of(self, done: Work) -> Header:
        flags = Flag.EXHAUSTED if done.ended else Flag.UNREAD if done.unread else Flag.NONE
        nbytes = len(self.up.storage) if done.samples else HEADER_BYTES
        samples, covers = done.samples + done.unread, (done.epoch, done.first, done.count)
        return Header(Kind.UPDATE, flags, self.version, samples, nbytes, *covers, done.busy_us)

    def sealed(self, header: Header) -> Header:
        """Put the update into the arena; one that is not finite is told by its header alone."""
        update = self.algorithm.send(self.x, self.state)
        self.computing.flat.gather(self.up.counters)
        if not (finite(update) and finite(self.up.buffers) and self.pack(update)):
            self.algorithm.dropped(self.x, self.state)
            self.computing.restore_buffers()
            return replace(header, flags=header.flags | Flag.NON_FINITE, nbytes=HEADER_BYTES)
        if self.compressor and self.algorithm.hears_sent:
            self.algorithm.sent(self.x, self.compressor.sent, self.state)
        return header

    def pack(self, update: Tensor) -> bool:
        """Put a finite update where it is sent from; whether it can be sent."""
        if self.compressor:
            return self.compressor.encode(update, self.up.payload)
        if update.data_ptr() != self.up.vector.data_ptr():
            self.up.vector.copy_(update)
        return True
