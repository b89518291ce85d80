"""A worker that computes its next update while the one before is under way."""

from __future__ import annotations

from dataclasses import replace

from nnlo.comm.base import Send, Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.flat import HEADER_BYTES
from nnlo.roles.setup import Setup
from nnlo.roles.worker import UnderWay, Worker
from nnlo.training.job import Job


class PipelinedWorker(Worker):
    """One message is under way at a time; its answer is taken in once the next update is on its way.

    What is sent is a copy, and so are the weights that the model computes with, unless it moves the centre's own: both
    ends of the exchange go on while it computes.
    """

    def __init__(self, transport: Transport, job: Job, setup: Setup) -> None:
        super().__init__(transport, job, setup)
        self.out = self.wires.update(self.channel.slot(self.wires.update_bytes))

    async def step(self) -> Header:
        """Updates for as long as there are batches; the answer to the last."""
        message = None if self.held else self.push(await self.work())
        while self.computing.prefetch.ranges:
            header = await self.work()
            reply = await self.answered(message)
            if reply.kind is Kind.STOP:
                return reply
            message = self.push(header, reply)
            if reply.flags & Flag.SAVE:
                self.held = replace(await self.answer(message), flags=Flag.NONE)
                if self.held.kind is Kind.STOP:
                    return self.held
                told = await self.show()
                while told.flags & Flag.SAVE:
                    told = await self.show()
                if told.kind is Kind.STOP:
                    return told
                self.take_range(told)
        return await self.answered(message)

    async def answered(self, message: UnderWay | None) -> Header:
        """What a message was answered, now or when a checkpoint was made: it is taken in later all the same."""
        held, self.held = self.held, None
        if held is not None:
            return held
        assert message is not None
        return await self.answer(message)

    def push(self, header: Header, reply: Header | None = None) -> UnderWay:
        """Send an update, and take in the answer to the one before: its statistics replace those that are sent."""
        began, sent = self.transport.trace.now(), self.leave(header)
        if reply is not None:
            self.take_in(reply)
        self.channel.post()
        return UnderWay(header, sent, began)

    def leave(self, header: Header) -> Send:
        if header.nbytes > HEADER_BYTES:
            self.out.storage.copy_(self.up.storage)
        self.signed(header).write(self.out.memory)
        return self.channel.send_written(self.out.storage, header.nbytes)


def worker_of(transport: Transport, job: Job, setup: Setup) -> Worker:
    """A worker as its algorithm declares."""
    kind = PipelinedWorker if job.server.pipelined else Worker
    return kind(transport, job, setup)
