"""One step of the centre from messages that speak for several workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnlo.algos import Lineage, Place, Update
from nnlo.algos.downpour import Downpour, DownpourOptions
from nnlo.comm.messages import Header, Kind
from nnlo.flat import Layout
from nnlo.optim import OptimizerSpec
from nnlo.roles.stepping import Arrived, Stepper
from nnlo.roles.wires import Wires


class Seen(Downpour):
    """Keeps what is merged."""

    seen: Sequence[Update] = ()

    def merge(self, updates: Sequence[Update], w: Tensor, state: dict[str, Any]) -> Tensor:
        self.seen = updates
        return super().merge(updates, w, state)


def memory(nbytes: int) -> Tensor:
    return torch.zeros(nbytes, dtype=torch.uint8)


def test_updates_that_share_a_message_are_one_vector_of_so_many_workers() -> None:
    """Two of four workers in one message of 3 + 5 samples: two steps of rate 1; buffers move half of the way."""
    layout, algorithm = Layout.of(nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))), Seen(DownpourOptions())
    wires = Wires(algorithm, layout, 1, workers=2)
    place = Place(0, 4, layout, optimizer=OptimizerSpec.of("sgd", {"lr": 1.0}))
    stepper = Stepper(memory, wires, algorithm, place)
    stepper.version = 7
    arena = wires.update(memory(wires.update_bytes))
    arena.vector.fill_(2.0)
    arena.buffers.fill_(4.0)
    arena.counters.fill_(9)
    headers = {peer: Header(Kind.UPDATE, version=6, samples=n) for peer, n in ((3, 3), (5, 5))}
    lineages = [stepper.lineage(peer, header) for peer, header in headers.items()]
    assert lineages == [Lineage(3, 6, 1, 3), Lineage(5, 6, 1, 5)]
    arrived = zip(lineages, headers.values(), strict=True)
    stepper.step([Arrived(one, header, arena, [0.0]) for one, header in arrived], workers=4, owed=2)
    assert [(update.lineage, update.workers) for update in algorithm.seen] == [(Lineage(3, 6, 1, 8), 2)]
    centre = stepper.centre.arena
    assert torch.equal(centre.vector, torch.full_like(centre.vector, -4.0))
    assert torch.equal(centre.buffers, torch.full_like(centre.buffers, 2.0)) and centre.counters.tolist() == [9]
