"""A master between the head and its own workers: many messages of theirs become one of its own.

Up goes a row for each worker and one vector, what the algorithm combines their updates to; down come a row for each
worker that is answered and what all of them are answered with. So the head deals, counts and steps as if it heard
every worker itself. In a synchronous mode a message waits for all workers that the head has answered; otherwise it
takes what is there once the head has taken the one before, so that a head that cannot keep up gets fewer and larger
ones. Where it matters how late an update is, one message tells of one version of the centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nnlo.algos import Lineage, Update
from nnlo.comm.base import Send, Source, Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.comm.tables import Table
from nnlo.errors import PeerLost
from nnlo.flat import HEADER_BYTES, Arena
from nnlo.logs import LOG
from nnlo.roles.centre import Pinned, Ring
from nnlo.roles.moves import moves_of
from nnlo.roles.setup import Setup
from nnlo.roles.stepping import Arrived, merge_buffers
from nnlo.roles.wires import Wires
from nnlo.roles.worker import EXCHANGE, MASTER
from nnlo.training.job import Job


class Relay:
    """The loop of such a master. `held`: what workers said that the head has not heard; `awaited`: who is to speak."""

    def __init__(self, transport: Transport, job: Job, setup: Setup) -> None:
        self.transport, self.algorithm = transport, job.server
        tree, sums = job.topology.crew, len(job.metric_names)
        self.workers = [transport.peers[child] for child in tree.nodes[transport.rank].children]
        self.below = Wires(job.server, setup.layout, sums)
        above = Wires(job.server, setup.layout, sums, len(self.workers))
        assert above.rows is not None
        self.rows, self._body = above.rows, Arena.sums_end(sums)
        self.head = transport.channel(transport.peers[MASTER], EXCHANGE, above.weights_bytes)
        self.reply = above.weights(self.head.incoming)
        self.up = above.update(self.head.slot(above.update_bytes))
        self.channels = {w: transport.channel(w, EXCHANGE, self.below.update_bytes) for w in self.workers}
        self._worker_of: dict[Source, int] = {channel: worker for worker, channel in self.channels.items()}
        self.inbox = {worker: self.below.update(channel.incoming) for worker, channel in self.channels.items()}
        self._decoded = [torch.empty_like(self.up.vector) for _ in self.workers] if self.below.up else []
        self.replies = Ring(lambda: self.below.weights(transport.storage(self.below.weights_bytes)))
        self.moves = moves_of(transport.storage, self.below, job.place(0, 0, setup.layout, ()).seed)
        self.held: dict[int, Header] = {}
        self.awaited, self.stopped = set(self.workers), set[int]()
        self.more_to_come = False
        self.sending: Send | None = None
        self.signals = setup.signals

    async def run(self) -> None:
        """Until every worker has left, and the head has been told."""
        for channel in (*self.channels.values(), self.head):
            channel.post()
        while self.channels or self.held:
            began = self.transport.trace.now()
            ready = await self.transport.wait(self.sources())
            self.transport.trace.add("idle", began)
            for source in ready:
                self.take(source)
            self.forward()

    def sources(self) -> list[Source]:
        return [*self.channels.values(), self.head, *([self.sending] if self.sending and self.held else [])]

    def take(self, source: Source) -> None:
        """What has come from a worker or from the head, or has left."""
        if source is self.sending:
            self.sending = None
        elif source is self.head:
            self.pass_on(self.head.take())
        else:
            self.hear(self._worker_of[source])

    def hear(self, worker: int) -> None:
        try:
            header = self.channels[worker].take()
        except PeerLost as lost:
            LOG.warning("%s", lost)
            header = Header(Kind.BYE, Flag.LOST)
        if header.kind is Kind.BYE:
            del self.channels[worker]
            self.stopped.add(worker)
        self.awaited.discard(worker)
        self.held[worker] = header

    # Up.

    def forward(self) -> None:
        """Send what is held, if there is room and it is time."""
        if self.sending and self.sending.ready:
            self.sending = None
        if self.sending or not self.held or (self.algorithm.synchronous and (self.awaited or self.more_to_come)):
            return
        headers = self.chosen()
        if self.signals.caught:
            headers = {worker: replace(one, flags=one.flags | Flag.SIGNALLED) for worker, one in headers.items()}
        updates = [worker for worker, header in headers.items() if brings(header)]
        if updates:
            self.combine(updates, headers)
        nbytes = len(self.up.storage) if updates else self.rows.end
        table = Table(Header(Kind.UPDATE, nbytes=nbytes), tuple(headers.get(w) for w in self.workers), self.rows)
        table.write(self.up.memory)
        self.sending = self.head.send_written(self.up.storage, nbytes, until_taken=True)
        self.make_room(headers)

    def chosen(self) -> dict[int, Header]:
        """What the next message tells, in the order of workers, so that sums do not depend on who came first."""
        versions = [header.version for header in self.held.values() if brings(header)]
        mixed = self.algorithm.synchronous and not self.algorithm.backup_workers
        headers = {worker: self.held[worker] for worker in self.workers if worker in self.held}
        return {w: h for w, h in headers.items() if mixed or not brings(h) or h.version == versions[0]}

    def combine(self, workers: Sequence[int], headers: dict[int, Header]) -> None:
        """One update of several, in the memory that is sent."""
        arrived = [[self.arrived(worker, headers[worker])] for worker in workers]
        updates = [Update(self.vector(place, one.arena), one.lineage) for place, (one,) in enumerate(arrived)]
        self.up.vector.copy_(self.algorithm.combine(updates))
        merge_buffers(self.up, arrived, 1.0)
        for worker in workers:
            self.rows.sums_of(self.up, self.workers.index(worker)).copy_(self.inbox[worker].sums)

    def arrived(self, worker: int, header: Header) -> Arrived:
        """How late it is, and the sums behind it, are for the head."""
        return Arrived(Lineage(worker, header.version, 0, header.samples), header, self.inbox[worker], [])

    def vector(self, place: int, arena: Arena) -> Tensor:
        if self.below.up is None:
            return arena.vector
        self.below.up.decode(arena.payload, self._decoded[place])
        return self._decoded[place]

    def make_room(self, headers: dict[int, Header]) -> None:
        """The next messages of those whose message goes up."""
        for worker, header in headers.items():
            del self.held[worker]
            if worker in self.channels:
                self.channels[worker].post()
                if self.algorithm.pull_first and brings(header):
                    self.awaited.add(worker)  # it is not answered, but goes on

    # Down.

    def pass_on(self, told: Header) -> None:
        """Give the workers that the head has answered what it says."""
        headers = {w: h for w, h in zip(self.workers, self.rows.read(self.reply), strict=True) if h is not None}
        pinned, nbytes = self.replies.fresh(), told.nbytes - self.rows.end
        self.more_to_come = bool(told.flags & Flag.MORE)
        if nbytes:
            body = self.reply.storage[self.rows.end : told.nbytes]
            pinned.arena.storage[self._body : self._body + nbytes].copy_(body)
        self.replies.back(pinned)
        self.stopped |= {worker for worker, header in headers.items() if header.kind is Kind.STOP}
        if self.stopped != set(self.workers):
            self.head.post()
        for worker, header in headers.items():
            if worker not in self.channels:
                continue
            self.awaited.add(worker)
            if brings(header):
                self.answer(worker, replace(header, nbytes=self._body + nbytes), pinned)
            else:
                self.channels[worker].send(header, self.transport.storage(HEADER_BYTES))

    def answer(self, worker: int, header: Header, pinned: Pinned) -> None:
        """Send what came from the head, or how far it is from what the worker has."""
        if self.moves and header.kind is Kind.REPLY:
            header = replace(header, nbytes=self.below.reply_bytes)
            self.moves.send(worker, self.channels[worker], header, pinned.arena)
            return
        if self.moves:
            self.moves.begin(worker, pinned.arena.vector)
        self.replies.send(self.channels[worker], header, pinned)


def brings(header: Header) -> bool:
    """Whether there is more to a message than its header."""
    return header.nbytes > HEADER_BYTES
