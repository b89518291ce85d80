"""The benchmark of slow links: its flags exist, and its figures are those of the timeline and of the history."""

from __future__ import annotations

import math
from typing import Any

import pytest

NAMES = ("bandwidth", "bandwidth_report", "hosts", "launch", "paired", "trainings", "workloads")


def span(rank: int, name: str, began: float, seconds: float, **args: int) -> dict[str, Any]:
    return {"pid": rank, "name": name, "ts": 1e6 * began, "dur": 1e6 * seconds, "args": args}


def test_the_flags_exist(parts: dict[str, Any]) -> None:
    for flags in (*parts["bandwidth"].EXCHANGES.values(), *parts["bandwidth"].TRAININGS.values()):
        parts["trainings"].algo_of(flags)


def test_an_exchange_is_what_stands_between_two_gradients(parts: dict[str, Any]) -> None:
    events = [
        span(1, "exchange", 0.0, 1.0, bytes=64),
        *(one for began in (1.0, 5.0, 9.0) for one in step(1, began)),
        *(one for began in (1.5, 7.5) for one in step(2, began)),
        span(0, "step", 3.0, 0.1),
    ]
    found = parts["bandwidth"].timed(events)
    assert found == pytest.approx({"exchange": 3.0, "epoch": 10.5, "megabytes": 2.0})


def step(rank: int, began: float) -> list[dict[str, Any]]:
    """A gradient of a second, and its update, which is answered after two more."""
    return [span(rank, "compute", began, 1.0), span(rank, "exchange", began + 1.5, 1.0, bytes=2_000_000)]


def test_the_target(parts: dict[str, Any]) -> None:
    points = [{"epoch": 0.5, "seconds": 4.0, "val_acc": 0.96}, {"epoch": 1.0, "seconds": 8.0, "val_acc": 0.971}]
    assert parts["bandwidth"].reached(points) == {"target": 8.0, "epoch": 8.0}
    assert parts["bandwidth"].reached(points[:1]) == {"target": math.inf, "epoch": 8.0}


def test_the_tables(parts: dict[str, Any]) -> None:
    found = {
        "dense": [{"exchange": 6.0, "epoch": 50.0, "megabytes": 40.0}],
        "sign": [{"exchange": 0.3, "epoch": 4.0, "megabytes": 1.25}],
    }
    lines = parts["bandwidth_report"].table("mlp", {"100mbit": found}).splitlines()
    assert lines == [
        "| | MB each way | 100mbit: an exchange, s | times as fast | an epoch, s |",
        "| --- | --- | --- | --- | --- |",
        "| dense | 40.0 | 6.00 | 1.00 | 50.0 |",
        "| sign | 1.25 | 0.300 | 20.0 | 4.00 |",
    ]
    never = {"dense": [{"target": 6.0, "epoch": 5.0}] * 2, "sign": [{"target": math.inf, "epoch": 5.0}] * 2}
    row = parts["bandwidth_report"].table("mnist", {"1gbit": never}).splitlines()[-1]
    assert row == "| sign | - | - | 5.00 |"
