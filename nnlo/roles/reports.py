"""What the first worker of a collective tells rank 0, and what rank 0 says to all of them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from nnlo.comm.base import Channel
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.flat import HEADER_BYTES, Arena
from nnlo.roles.round import NOTHING, NOTICED, record_size
from nnlo.roles.setup import Setup
from nnlo.training.job import Job

if TYPE_CHECKING:
    from nnlo.roles.rounds import Rounds

MASTER = 0
REPORTS = 2  # the tag of the channel between the first worker and rank 0
NOTICES = 4  # of that by which rank 0 says that it wants to be shown the weights
GO, SHOW = 1, 2  # what the first worker tells the others at a point of the run: to go on, to show their state
REPORT_BYTES = 1 << 16  # room behind the weights for the algorithm's figures, as JSON


class Reports:
    """The channels are there on the first worker alone."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._channel: Channel | None = None
        self._notices: Channel | None = None

    def open(self) -> None:
        """Whoever is the first worker reports from now on."""
        rounds = self._rounds
        if rounds.workers.rank == 0 and self._channel is None:
            master = rounds.transport.peers[MASTER]
            self._channel = rounds.transport.channel(master, REPORTS, HEADER_BYTES)
            self._notices = rounds.transport.channel(master, NOTICES, HEADER_BYTES)
            self._notices.post()

    def asks(self) -> int:
        """Whether rank 0 wants to be shown the weights after this round."""
        if self._notices is None or not self._notices.ready:
            return NOTHING
        self._notices.take()
        self._notices.post()
        return NOTICED

    async def send(self, header: Header) -> None:
        """Tell rank 0 what all did. Raises PeerLost where that is gone."""
        rounds = self._rounds
        if self._channel is not None:
            if self._channel.ready:  # nothing is to come now
                self._channel.take()
            sent = self._channel.send(replace(header, version=rounds.version, flags=rounds.flags), rounds.up.storage)
            if not sent.ready:
                await rounds.transport.wait([sent])

    async def ask(self, figures: dict[str, Any]) -> int:
        """Show the weights and the algorithm's figures to rank 0; what it says, which all workers get."""
        rounds, word = self._rounds, torch.zeros(1, dtype=torch.uint8)
        if self._channel is not None:
            rounds.computing.flat.gather(rounds.up.counters)
            self._channel.post()
            text = torch.frombuffer(bytearray(json.dumps(figures).encode()), dtype=torch.uint8)
            rounds.up.storage[rounds.nbytes : rounds.nbytes + len(text)].copy_(text)
            await self.send(Header(Kind.SNAPSHOT, nbytes=rounds.nbytes + len(text), count=int(rounds.finished)))
        await rounds.show()
        if self._channel is not None:
            await rounds.transport.wait([self._channel])
            told = self._channel.take()
            word[0] = GO * (told.kind is not Kind.STOP) + SHOW * bool(told.flags & Flag.SAVE)
        await rounds.workers.wait([rounds.workers.broadcast(word, 0)])
        return int(word[0])


def snapshot_bytes(setup: Setup, job: Job, workers: int) -> int:
    """Records of all workers, then weights and buffers."""
    return Arena.nbytes(setup.layout, workers * record_size(len(job.metric_names)))


def weights_start(arena: Arena) -> int:
    """Where counters, buffers and weights begin."""
    return Arena.sums_end(arena.sums.numel())
