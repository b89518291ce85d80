"""What the workers of a collective tell one another about a round: a few numbers each, the same on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nnlo.comm.base import Source, Transport

FIGURES = ("samples", "refused", "count", "left", "busy", "bytes_up", "bytes_down", "spoils", "asks", "unread")
"""Samples that count, samples of an update that was not finite, batches, whether there are more, seconds computed,
bytes, whether that update is in the sum all the same, and whether rank 0 is to be shown the weights now: one of
NOTHING, NOTICED, SIGNALLED; samples of a batch that could not be read."""

#: Rank 0 has sent word that it wants to see the weights; the job was told to leave by a signal.
NOTHING, NOTICED, SIGNALLED = range(3)


def record_size(sums: int) -> int:
    """Numbers that one worker tells."""
    return len(FIGURES) + sums


@dataclass(frozen=True)
class Told:
    """What one worker did in a round."""

    samples: int
    refused: int
    count: int
    left: bool
    busy: float
    bytes_up: int
    bytes_down: int
    spoils: bool
    asks: int
    unread: int
    sums: list[float]

    @classmethod
    def read(cls, record: Sequence[float]) -> Told:
        samples, refused, count, left, busy, up, down, spoils, asks, unread = record[: len(FIGURES)]
        sums, said = list(record[len(FIGURES) :]), (bool(spoils), int(asks), int(unread))
        return cls(int(samples), int(refused), int(count), bool(left), busy, int(up), int(down), *said, sums)

    @property
    def record(self) -> list[float]:
        return [*(getattr(self, name) for name in FIGURES), *self.sums]


class Round:
    """One round's records, float64 of shape (workers, numbers), at the start of memory that can be sent."""

    def __init__(self, transport: Transport, sums: int, everyone: Tensor) -> None:
        self._transport, self._mine = transport, torch.zeros(record_size(sums), dtype=torch.float64)
        self.records = everyone[: transport.size * record_size(sums)].view(transport.size, record_size(sums))

    def tell(self, told: Told) -> Source:
        """Start telling the others."""
        self._mine.copy_(torch.tensor(told.record, dtype=torch.float64))
        return self._transport.gather_all(self._mine, self.records)

    async def over(self) -> None:
        """Wait until all workers have been through it."""
        source = self._transport.gather_all(torch.zeros(1), torch.zeros(self._transport.size, 1))
        if not source.ready:
            await self._transport.wait([source])

    def told(self) -> list[Told]:
        """What all workers did, once the source is ready."""
        return [Told.read(record) for record in self.records.tolist()]
