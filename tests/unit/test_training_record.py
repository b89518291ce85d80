"""The recorder's arithmetic, against numbers worked out by hand."""

from __future__ import annotations

import json
import math
import time

from nnlo.training.record import Recorder, figures_of
from nnlo.training.strict_json import dumps


class Clock:
    def __init__(self) -> None:
        self.now = 10.0

    def __call__(self) -> float:
        return self.now


def filled() -> dict:
    clock = Clock()
    recorder = Recorder(("loss", "acc"), clock)
    recorder.replied(1, 100)
    for worker, nbytes in ((1, 1000), (2, 1000), (1, 800), (2, 900)):
        recorder.received(worker, nbytes)
    recorder.update(1, 10, (20.0, 5.0), 0, 0.5)
    recorder.step()
    recorder.update(2, 30, (20.0, 25.0), 2, 1.5)
    recorder.step()
    recorder.replied(2, 60)
    recorder.update(1, 10, (10.0, 6.0), 1, 0.5)
    recorder.step()
    recorder.refused(2, 7)
    recorder.skipped(1, 3)
    recorder.late(2, 5, 0.25)
    clock.now = 14.0
    return recorder.close_epoch(1, 62, 0.125)


def test_an_epoch_adds_up() -> None:
    assert filled() == {
        "epoch": 1,
        "seconds": 14.0,
        "samples": 62,
        "updates": 3,
        "refused": 1,
        "refused_samples": 7,
        "late": 1,
        "late_samples": 5,
        "skipped": 1,
        "skipped_samples": 3,
        "loss": 1.0,
        "acc": 0.72,
        "staleness": {"mean": 1.0, "max": 2, "histogram": [1, 1, 1]},
        "bytes_up": 3700,
        "bytes_down": 160,
        "samples_per_second": 12.5,
        "lr": 0.125,
        "ranks": {
            "1": {
                "samples": 20,
                "updates": 2,
                "refused": 0,
                "late": 0,
                "skipped": 1,
                "loss": 1.5,
                "acc": 0.55,
                "busy_seconds": 1.0,
                "samples_per_second": 5.0,
                "bytes_up": 1800,
                "bytes_down": 100,
            },
            "2": {
                "samples": 30,
                "updates": 1,
                "refused": 1,
                "late": 1,
                "skipped": 0,
                "loss": 20 / 30,
                "acc": 25 / 30,
                "busy_seconds": 1.75,
                "samples_per_second": 7.5,
                "bytes_up": 1900,
                "bytes_down": 60,
            },
        },
    }


def test_one_step_of_many_updates_is_one_step() -> None:
    recorder = Recorder(("loss",), Clock())
    for worker in range(1, 5):
        recorder.update(worker, 8, [1.0], 0, 0.0)
    recorder.step()
    entry = recorder.close_epoch(1, 32, None)
    assert entry["updates"] == 1
    assert sum(rank["updates"] for rank in entry["ranks"].values()) == 4
    assert entry["staleness"] == {"mean": 0.0, "max": 0, "histogram": [4]}


def test_the_next_epoch_begins_empty_where_the_last_ended() -> None:
    clock = Clock()
    recorder = Recorder(("loss",), clock)
    recorder.update(1, 10, [10.0], 5, 1.0)
    recorder.step()
    recorder.refused(1, 10)
    recorder.late(1, 10, 0.0)
    clock.now = 12.0
    recorder.close_epoch(1, 10, 0.1)
    recorder.update(2, 20, [10.0], 0, 1.0)
    clock.now = 16.0
    entry = recorder.close_epoch(2, 30, 0.1)
    assert (entry["loss"], entry["updates"], entry["refused"], entry["refused_samples"]) == (0.5, 0, 0, 0)
    assert (entry["late"], entry["late_samples"]) == (0, 0)
    assert entry["samples_per_second"] == 5.0
    assert entry["staleness"]["histogram"] == [1]
    assert list(entry["ranks"]) == ["2"]


def test_an_epoch_without_updates_has_no_means() -> None:
    entry = Recorder(("loss",), Clock()).close_epoch(1, 0, 0.1)
    assert math.isnan(entry["loss"]) and math.isnan(entry["samples_per_second"])
    assert math.isnan(entry["staleness"]["mean"]) and entry["staleness"]["histogram"] == []


def test_a_rank_without_a_batch_in_an_epoch_has_no_means() -> None:
    recorder = Recorder(("loss", "acc"), Clock())
    recorder.update(1, 10, (20.0, 5.0), 0, 0.5)
    recorder.replied(2, 60)
    entry = recorder.close_epoch(1, 10, 0.1)
    assert (entry["loss"], entry["ranks"]["1"]["loss"], entry["ranks"]["2"]["samples"]) == (2.0, 2.0, 0)
    assert json.loads(dumps(entry["ranks"]["2"]))["loss"] is None


def test_ranks_are_in_the_order_of_their_numbers() -> None:
    recorder = Recorder(("loss",), Clock())
    for worker in (10, 2, 1):
        recorder.update(worker, 1, [0.0], 0, 0.0)
    assert list(recorder.close_epoch(1, 3, 0.1)["ranks"]) == ["1", "2", "10"]


def test_figures_are_told_from_counts() -> None:
    entry = {**filled(), "val_loss": 0.5, "val_acc": 0.75}
    assert figures_of(entry) == ({"loss": 1.0, "acc": 0.72}, {"val_loss": 0.5, "val_acc": 0.75})


def test_an_update_is_cheap() -> None:
    recorder, sums = Recorder(("loss", "acc"), Clock()), [1.0, 2.0]
    best = math.inf
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(1000):
            recorder.update(1, 100, sums, 1, 0.01)
        best = min(best, time.perf_counter() - began)
    assert best / 1000 < 10e-6
