"""A gradient that the ranks of a team compute together: each its own rows of the batch, at the lead's weights.

With b rows, of which rank p has b_p, and g_p the mean gradient of those: g = sum b_p / b g_p. Sums of loss and metrics
add up, float buffers are averaged by rows, integer buffers are the lead's. The lead is the worker that all others
know; its members know their lead alone. For every batch it tells them the weights, the buffers and the range that
it was dealt meanwhile, and they read the batch by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from nnlo.comm.base import Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.data.blocks import each
from nnlo.data.dealing import Range
from nnlo.data.feed import Batch
from nnlo.errors import DataError, PeerLost
from nnlo.flat import HEADER_BYTES, Arena
from nnlo.logs import LOG
from nnlo.roles.computing import Computing
from nnlo.roles.setup import Setup
from nnlo.roles.team import LEAD, Team
from nnlo.training.checkpoint.parcel import packed, unpacked
from nnlo.training.job import Job
from nnlo.training.seeds import random_state, set_random_state

UNLIKE = (
    "generate_data() gave the ranks of one worker unlike batches: let its random choices come from numpy's or Python's "
    "global generators, or drop --n-processes"
)


class Sharing(Computing):
    """What a lead and its members have in common."""

    def __init__(
        self, transport: Transport, job: Job, setup: Setup, x: Tensor, gradient: Tensor, up: Arena, sums: Tensor
    ) -> None:
        super().__init__(transport, job, setup, x, gradient, up, sums)
        assert setup.team is not None
        self._team: Team = setup.team
        self._counters, self._buffers = torch.zeros_like(up.counters), up.buffers
        self._opening = torch.zeros(HEADER_BYTES + self._counters.nbytes, dtype=torch.uint8)
        self._tally = torch.zeros(2 + len(sums), dtype=torch.float64)  # rows, sums, ranks that are told to leave
        self._signals = setup.signals
        self._told = [memory for memory in (self._opening, x, self._buffers) if memory.numel()]

    def part_of(self, batch: Batch, samples: int) -> None:
        """This rank's part of the gradient, sums and buffers of a batch of `samples`."""
        rows = self._team.part(batch.samples)
        own = rows.stop - rows.start
        self._gradients.begin()
        self._tally.zero_()
        if own:
            x, y = (each(value, lambda tensor: tensor[rows]) for value in (batch.x, batch.y))
            self._step(x, y, self._tally[1:-1])
        self._gradients.end()
        self._gradients.vector.mul_(own / samples)
        self._tally[0], self._tally[-1] = own, self._signals.caught is not None
        self.flat.gather(self._counters)
        self._buffers.mul_(own / samples)

    async def add_up(self) -> None:
        """All parts together, on every rank of the team."""
        began = self._transport.trace.now()
        memories = (self._gradients.vector, self._tally, self._buffers)
        await self._team.add_up([memory for memory in memories if memory.numel()])
        self._transport.trace.add("team wait", began)


class Lead(Sharing):
    """Computes as one rank alone does, with the help of its members."""

    def __init__(
        self, transport: Transport, job: Job, setup: Setup, x: Tensor, gradient: Tensor, up: Arena, sums: Tensor
    ) -> None:
        super().__init__(transport, job, setup, x, gradient, up, sums)
        self._dealt: list[Range] = []

    def add(self, dealt: Range) -> None:
        super().add(dealt)
        self._dealt.append(dealt)

    async def deal_again(self, dealt: Sequence[Range]) -> None:
        await super().deal_again(dealt)
        self._dealt.clear()
        await self._tell(Kind.STOPPED)
        self._dealt.extend(dealt)

    async def next(self) -> Batch | None:
        batch = await super().next()
        if batch is None:
            await self._tell(Kind.UPDATE, Flag.EXHAUSTED)
        return batch

    async def one(self, batch: Batch, before: Callable[[int], None], after: Callable[[int], None]) -> None:
        before(batch.samples)
        await self._tell(Kind.UPDATE, samples=batch.samples)
        own = self._team.part(batch.samples)
        await self._transport.compute(partial(self.part_of, batch, batch.samples), own.stop - own.start)
        await self.add_up()
        if int(self._tally[0]) != batch.samples:
            raise DataError(UNLIKE)
        self._sums.add_(self._tally[1:-1])
        if self._tally[-1]:
            self._signals.caught = self._signals.caught or "a signal"
        after(batch.samples)

    async def state_dict(self) -> dict[str, Any]:
        """With the random streams of all ranks of the team."""
        await self._tell(Kind.STATE)
        told = await self._team.transport.allgather(b"")
        streams = [unpacked(data, "a rank of the team") for data in told[1:]]
        return {**await super().state_dict(), "team": streams}

    async def load_state_dict(self, state: dict[str, Any]) -> None:
        await super().load_state_dict(state)
        streams = state.get("team", [])
        if len(streams) == self._team.transport.size - 1:
            await self._tell(Kind.WEIGHTS)
            await self._team.transport.allgather(packed(streams))

    async def end(self) -> None:
        await self._tell(Kind.STOP)
        await super().end()

    async def _tell(self, kind: Kind, flags: int = Flag.NONE, samples: int = 0) -> None:
        """What the members are to do, and all that was dealt since they heard last."""
        while len(self._dealt) > 1:
            await self._say(Header(Kind.REPLY), self._dealt.pop(0))
        await self._say(Header(kind, flags, samples=samples), self._dealt.pop() if self._dealt else Range(0, 0, 0))

    async def _say(self, header: Header, dealt: Range) -> None:
        Header(
            header.kind, header.flags, samples=header.samples, epoch=dealt.epoch, first=dealt.first, count=dealt.count
        ).write(self._opening.numpy().data)
        self.flat.gather(self._counters)
        self._opening[HEADER_BYTES:].copy_(self._counters.view(torch.uint8))
        await self._team.share(self._told)


class Member(Sharing):
    """Does as its lead says, until that stops."""

    def __init__(self, transport: Transport, job: Job, setup: Setup) -> None:
        layout, sums = setup.layout, len(job.metric_names)
        up = Arena(layout, sums, transport.storage(Arena.nbytes(layout, sums)))
        gradient = torch.zeros_like(up.vector)
        super().__init__(transport, job, setup, up.vector, gradient, up, torch.zeros_like(up.sums))

    async def run(self) -> None:
        """As long as the team is whole."""
        try:
            await self.serve()
        except PeerLost as lost:
            LOG.warning("%s: rank %d has nobody to compute for", lost, self._transport.id)
            await self.end()

    async def serve(self) -> None:
        while True:
            began = self._transport.trace.now()
            await self._team.share(self._told)
            self._transport.trace.add("idle", began)
            header = Header.read(self._opening.numpy().data)
            if header.count:
                self.add(Range(header.epoch, header.first, header.count))
            if header.kind is Kind.STOP:
                await self.end()
                return
            if header.kind is Kind.UPDATE:
                await self._batch(header)
            if header.kind is Kind.STOPPED:
                await self.deal_again([])
            if header.kind is Kind.STATE:
                await self._team.transport.allgather(packed(random_state()))
            if header.kind is Kind.WEIGHTS:
                streams = unpacked((await self._team.transport.allgather(b""))[LEAD], "the checkpoint")
                set_random_state(streams[self._team.transport.rank - 1])

    async def _batch(self, header: Header) -> None:
        batch = await self.next()
        if (batch is None) != bool(header.flags & Flag.EXHAUSTED):
            raise DataError(UNLIKE)
        if batch is None:
            return
        self._counters.view(torch.uint8).copy_(self._opening[HEADER_BYTES:])
        self.flat.write_counters(self._counters)
        own = self._team.part(batch.samples)
        began = self._transport.trace.now()
        await self._transport.compute(partial(self.part_of, batch, header.samples), own.stop - own.start)
        self._transport.trace.add("compute", began, own.stop - own.start)
        await self.add_up()


def computing(
    transport: Transport, job: Job, setup: Setup, x: Tensor, gradient: Tensor, up: Arena, sums: Tensor
) -> Computing:
    """What a worker computes with: alone, or as the lead of its team."""
    kind = Lead if setup.team else Computing
    return kind(transport, job, setup, x, gradient, up, sums)
