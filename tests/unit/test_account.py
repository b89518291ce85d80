"""What callbacks are told of a step."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nnlo.algos import Lineage
from nnlo.comm.messages import Header, Kind
from nnlo.flat import Arena, Layout
from nnlo.roles.account import Account
from nnlo.roles.stepping import Arrived
from nnlo.training.callbacks import Callback, Callbacks
from nnlo.training.record import Recorder


class Told(Callback):
    def __init__(self) -> None:
        self.logs: list[tuple[int, dict[str, Any]]] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.logs.append((batch, logs))


def arrived(peer: int, delay: int, samples: int, sums: list[float]) -> Arrived:
    layout = Layout.of(nn.Linear(1, 1))
    arena = Arena(layout, 2, torch.zeros(Arena.nbytes(layout, 2), dtype=torch.uint8))
    return Arrived(Lineage(peer, 0, delay, samples), Header(Kind.UPDATE, samples=samples), arena, sums)


def test_means_are_over_all_updates_of_a_step() -> None:
    told, recorder = Told(), Recorder(["loss", "acc"], lambda: 0.0)
    account = Account(recorder, Callbacks([told]), 100)
    account.add([arrived(1, 3, 10, [5.0, 4.0]), arrived(2, 7, 30, [1.0, 8.0]), arrived(3, 0, 10, [4.0, 3.0])], 6, 150)
    account.add([arrived(1, 1, 4, [2.0, 1.0])], 7, 154)
    assert told.logs == [
        (6, {"samples": 150, "epoch": 1.5, "staleness": 7, "loss": 0.2, "acc": 0.3}),
        (7, {"samples": 154, "epoch": 1.54, "staleness": 1, "loss": 0.5, "acc": 0.25}),
    ]
    entry = recorder.close_epoch(1, 154, None)
    assert entry["updates"] == 2 and entry["ranks"]["1"]["updates"] == 2 and entry["ranks"]["2"]["samples"] == 30
