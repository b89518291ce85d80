"""A worker: reads batches, computes gradients, exchanges updates for weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain

import torch
from torch import Tensor

from nnlo.comm.base import Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.data.dealing import Range
from nnlo.data.feed import Batch, Tensors
from nnlo.errors import ProtocolError
from nnlo.flat import HEADER_BYTES, Arena, Flat
from nnlo.model import GradientStep, ScaledStep, evaluate
from nnlo.roles.prefetch import Prefetch
from nnlo.roles.setup import Setup
from nnlo.training.job import Job

MASTER = 0
EXCHANGE = 1  # the tag of the channel between a worker and its master


class Worker:
    """The loop of one worker of a server algorithm.

    Where the algorithm allows, the gradient is written by the backward pass into the memory that is
    sent, and the reply arrives in the memory that the model computes with.
    """

    def __init__(self, transport: Transport, job: Job, setup: Setup) -> None:
        self.transport, self.algorithm, layout = transport, job.algorithm, setup.layout
        self.channel = transport.channel(transport.peers[MASTER], EXCHANGE, setup.arena_bytes(job))
        self.down = Arena(layout, len(job.metric_names), self.channel.incoming)
        self.up = Arena(layout, len(job.metric_names), self.channel.outgoing)
        self.x = self.down.vector if self.algorithm.reply_is_weights else torch.zeros_like(self.down.vector)
        self.gradient = self.up.vector if self.algorithm.gradient_is_update else torch.zeros_like(self.x)
        self.flat = Flat(setup.module, layout, self.x, self.gradient, self.up.buffers)
        self.state = self.algorithm.init(self.x, self.up.vector)
        step = GradientStep(setup.module, job.loss, job.metrics, job.amp)
        self.step = ScaledStep(step, self.gradient) if job.amp is torch.float16 else step
        self.prefetch = Prefetch(transport, setup.intake.feed(layout.dtype))
        self.version = 0

    async def run(self) -> None:
        """Train until the master says stop."""
        reply = await self.exchange(Header(Kind.HELLO))
        while reply.kind is not Kind.STOP:
            self.take_in(reply)
            reply = await self.exchange(await self.work())
        self.channel.send(Header(Kind.BYE))

    async def exchange(self, header: Header) -> Header:
        trace = self.transport.trace
        began = trace.now()
        self.channel.post()
        sent = self.channel.send(header)
        waited = trace.now()
        await self.transport.wait([self.channel])
        trace.add("reply wait", waited)
        if not sent.ready:
            waited = trace.now()
            await self.transport.wait([sent])
            trace.add("send wait", waited)
        reply = self.channel.take()
        trace.add("exchange", began, header.nbytes, header.version, reply.version)
        return reply

    def take_in(self, reply: Header) -> None:
        if reply.kind is not Kind.REPLY:
            raise ProtocolError(f"rank {self.transport.id} expected a reply, not {reply.kind.name}")
        if reply.nbytes > HEADER_BYTES:
            self.version = reply.version
            self.algorithm.receive(self.x, self.down.vector, self.state)
            self.up.buffers.copy_(self.down.buffers)
            self.flat.write_counters(self.down.counters)
        if reply.count:
            self.prefetch.add(Range(reply.epoch, reply.first, reply.count))

    async def work(self) -> Header:
        """Compute one update, from at most `sync_every` batches of one range; its header."""
        self.up.sums.zero_()
        first = self.prefetch.ranges[0]
        busy, samples, count, flags = 0.0, 0, 0, Flag.NONE
        while count < min(self.algorithm.sync_every, first.count):
            batch = await self.prefetch.next()
            if batch is None:
                flags = Flag.EXHAUSTED
                break
            began = self.transport.clock()
            await self.transport.compute(partial(self.compute, batch), batch.samples)
            busy += self.transport.clock() - began
            self.transport.trace.add("compute", began, batch.samples)
            samples, count = samples + batch.samples, count + 1
        busy_us = round(1e6 * busy)
        header = Header(Kind.UPDATE, flags, self.version, samples, 0, first.epoch, first.first, count, busy_us)
        return self.sealed(header) if samples else replace(header, nbytes=HEADER_BYTES)

    def compute(self, batch: Batch) -> None:
        self.gradient.zero_()
        self.step(batch.x, batch.y, self.up.sums)
        self.algorithm.local(self.x, self.gradient, batch.samples, self.state)

    def sealed(self, header: Header) -> Header:
        """Put the update into the arena; one that is not finite is told by its header alone."""
        update = self.algorithm.send(self.x, self.state)
        self.flat.gather(self.up.counters)
        if not (finite(update) and finite(self.up.buffers)):
            return replace(header, flags=header.flags | Flag.NON_FINITE, nbytes=HEADER_BYTES)
        if update.data_ptr() != self.up.vector.data_ptr():
            self.up.vector.copy_(update)
        return replace(header, nbytes=len(self.up.storage))


def measured(job: Job, setup: Setup) -> dict[str, float]:
    """Loss and metrics of the weights that a worker had last, on its share of the training samples, and how many.

    The number alone where the share is empty. Raises DataError.
    """
    batches, samples = setup.intake.measured.batches(setup.layout.dtype), 0
    first = next(batches, None)
    if first is None:
        return {"samples": 0}

    def counted() -> Iterator[tuple[Tensors, Tensors]]:
        nonlocal samples
        for batch in chain([first], batches):
            samples += batch.samples
            yield batch.x, batch.y

    figures = evaluate(setup.module, counted(), job.loss, job.metrics)
    return {"samples": samples, **figures}


def finite(vector: Tensor) -> bool:
    """Whether no element is inf or nan: a sum tells in one pass, unless finite values overflow it."""
    return math.isfinite(vector.sum().item()) or bool(torch.isfinite(vector).all())
