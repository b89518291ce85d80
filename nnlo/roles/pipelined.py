"""A worker that computes its next update while the one before is under way."""

from __future__ import annotations

from nnlo.comm.base import Send, Transport
from nnlo.comm.messages import Header, Kind
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
        message = self.begin(await self.work())
        while self.computing.prefetch.ranges:
            header = await self.work()
            reply = await self.answer(message)
            if reply.kind is Kind.STOP:
                return reply
            message = self.begin(header, reply)
        return await self.answer(message)

    def begin(self, header: Header, reply: Header | None = None) -> UnderWay:
        """Send an update, and take in the answer to the one before: its statistics replace those that are sent."""
        began, sent = self.transport.trace.now(), self.leave(header)
        if reply is not None:
            self.take_in(reply)
        self.channel.post()
        return UnderWay(header, sent, began)

    def leave(self, header: Header) -> Send:
        if header.nbytes > HEADER_BYTES:
            self.out.storage.copy_(self.up.storage)
        header.write(self.out.memory)
        return self.channel.send_written(self.out.storage, header.nbytes)


def worker_of(transport: Transport, job: Job, setup: Setup) -> Worker:
    """A worker as its algorithm declares."""
    kind = PipelinedWorker if job.server.pipelined else Worker
    return kind(transport, job, setup)
