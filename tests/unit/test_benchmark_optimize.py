"""The benchmark of searches: its functions have the minima that are known, its figures say what happened."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnlo.comm.base import Transport
from nnlo.comm.costs import Costs
from nnlo.comm.virtual import VirtualWorld
from nnlo.optimize.block import Talk, Trainer, Weights
from nnlo.optimize.coordinator import Watcher
from nnlo.optimize.dimensions import Real
from nnlo.optimize.figure import FigureOfMerit
from nnlo.optimize.plan import searched
from nnlo.optimize.pruners import pruner_of
from nnlo.optimize.record import Record, read_record
from nnlo.optimize.search import Outcome, Say, Search, Stretch, Work
from nnlo.optimize.searchers import SEARCHERS
from nnlo.optimize.space import Space
from nnlo.optimize.trial import Status
from nnlo.topology import Blocks
from nnlo.training.signals import Signals

NAMES = ("functions", "searches", "pruning", "optimize")


# The functions.


@pytest.mark.parametrize("name", ["branin", "hartmann6"])
def test_the_minima_are_those_that_are_known(name: str, parts: dict[str, Any]) -> None:
    """No way leads down from them, and no random point is lower."""
    function = parts["functions"].FUNCTIONS[name]
    low, high = np.array(function.ranges).T
    rng = np.random.default_rng(1)
    for place in function.places:
        assert np.all(place >= low) and np.all(place <= high)
        assert function(place) == pytest.approx(function.minimum, abs=5e-6)
        near = np.clip(place + rng.normal(0.0, 1e-2, (1000, len(low))) * (high - low), low, high)
        assert function.formula(near).min() >= function.minimum - 5e-6
    assert function.formula(rng.uniform(low, high, (20_000, len(low)))).min() > function.minimum


def test_branin_elsewhere(parts: dict[str, Any]) -> None:
    """At the origin by hand; the largest value, as it is known, in a corner."""
    branin = parts["functions"].FUNCTIONS["branin"]
    assert branin((0, 0)) == pytest.approx(36 + 20 - 10 / (8 * math.pi), rel=1e-12)
    assert branin((-5, 0)) == pytest.approx(308.12909601160663, rel=1e-12)


WELLS = """
1.0   10 3 17 3.5 1.7 8     0.1312 0.1696 0.5569 0.0124 0.8283 0.5886
1.2   0.05 10 17 0.1 8 14   0.2329 0.4135 0.8307 0.3736 0.1004 0.9991
3.0   3 3.5 1.7 10 17 8     0.2348 0.1451 0.3522 0.2883 0.3047 0.6650
3.2   17 8 0.05 10 0.1 14   0.4047 0.8828 0.8732 0.5743 0.1091 0.0381
"""
"""Each of Hartman's wells in a line: how deep, how narrow in each dimension, and where."""


def test_hartmann6_is_a_sum_of_wells(parts: dict[str, Any]) -> None:
    wells = [[float(word) for word in line.split()] for line in WELLS.strip().splitlines()]
    for point in (*np.random.default_rng(2).random((20, 6)), *(well[7:] for well in wells)):
        value = 0.0
        for depth, *rest in wells:
            narrow, center = rest[:6], rest[6:]
            away = sum(a * (x - p) ** 2 for a, x, p in zip(narrow, point, center, strict=True))
            value -= depth * math.exp(-away)
        assert parts["functions"].FUNCTIONS["hartmann6"](point) == pytest.approx(value, rel=1e-12)


def test_a_minimum_is_reached_within_a_hundredth_of_the_way_from_the_median(parts: dict[str, Any]) -> None:
    """Of 2 + x^2 on [0, 4] the minimum is 2 and the median 6."""
    parabola = parts["functions"].Function("parabola", ((0, 4),), lambda x: 2 + x[..., 0] ** 2, 2.0, ((0.0,),))
    assert parabola.typical == pytest.approx(6.0, abs=0.05)
    assert parabola.target == pytest.approx(2.04, abs=1e-3)
    assert parabola.gap(2.0) == 0.0 and parabola.gap(6.0) == pytest.approx(1.0, abs=0.02)
    assert parabola.evaluations([6.0, 2.05, 2.03, 2.5, 2.01]) == 3
    assert parabola.evaluations([6.0, 2.05]) is None
    assert parabola.evaluations([parabola.target]) == 1


# On blocks.


def test_a_search_ends_where_the_minimum_is_reached(parts: dict[str, Any]) -> None:
    searches = parts["searches"]
    line = parts["functions"].Function("line", ((0, 1),), lambda x: x[..., 0], 0.0, ((0.0,),))
    found = searches.on_blocks("random", 2, line, 0, 2000)
    count = line.evaluations(found.values)
    assert count is not None and count <= len(found.values) <= count + 1, "the other block ends what it has begun"
    assert searches.figures(line, found)["seconds"] == found.ended[count - 1] == pytest.approx(count / 2, rel=0.3)
    assert len(found.asks) >= len(found.values) and found.ended == sorted(found.ended)


@pytest.mark.parametrize("searcher", ["random", "genetic"])
def test_a_search_that_does_not_reach_it_spends_the_budget(searcher: str, parts: dict[str, Any]) -> None:
    hidden = parts["functions"].Function("hidden", ((0, 1),), lambda x: 1 + x[..., 0], 0.0, ())
    found = parts["searches"].on_blocks(searcher, 4, hidden, 0, 40)
    assert len(found.values) == len(found.asks) == 40 and min(found.values) >= 1.0
    assert parts["searches"].figures(hidden, found)["evaluations"] is None
    assert found.idle < 1e-3


def test_alone_one_point_follows_another(parts: dict[str, Any]) -> None:
    line = parts["functions"].Function("line", ((0, 1),), lambda x: x[..., 0], 0.0, ((0.0,),))
    points = iter([0.5, 0.25, 0.001, 0.75])
    told: list[tuple[float, float]] = []
    found = parts["searches"].alone(line, 4, lambda: [next(points)], lambda point, value: told.append((*point, value)))
    assert found.values == [0.5, 0.25, 0.001] and found.ended == [1.0, 2.0, 3.0]
    assert told == [(0.5, 0.5), (0.25, 0.25), (0.001, 0.001)]


@pytest.mark.parametrize("other", ["skopt", "optuna"])
def test_others_look_between_whole_numbers_too(other: str, parts: dict[str, Any]) -> None:
    if other not in parts["searches"].ALONE:
        pytest.skip(f"{other} is not installed")
    asked: list[float] = []
    seen = parts["functions"].Function("seen", ((0, 4),), lambda x: asked.append(float(x[0])) or x[..., 0], -1.0, ())
    object.__setattr__(seen, "typical", 2.0)
    found = parts["searches"].ALONE[other](seen, 0, 3)
    assert found.values == asked and all(0 < point < 4 and point % 1 for point in asked)


def test_blocks_are_idle_between_their_trials(parts: dict[str, Any]) -> None:
    """Until second 4, when the last one begins, block 1 has none for a second, and block 2 for 3."""
    spans = [(1, 0.0, 2.0), (2, 0.0, 1.0), (1, 3.0, 6.0), (2, 4.0, 5.0)]
    stretches = [Stretch(block, trial, *span, Status.DONE) for trial, (block, *span) in enumerate(spans)]
    assert parts["searches"].idle(stretches, 2) == pytest.approx((1 + 3) / 8)


# The table.


def test_every_searcher_has_its_turn_for_each_seed(parts: dict[str, Any]) -> None:
    runs = parts["optimize"].runs({"branin": 60, "hartmann6": 0}, [2, 8], 3)
    assert {run.function for run in runs} == {"branin"} and {run.budget for run in runs} == {60}
    assert len(runs) == len(set(runs)) == 3 * (2 * len(parts["searches"].OURS) + len(parts["searches"].ALONE))
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)


def test_the_table(parts: dict[str, Any]) -> None:
    def row(evaluations: int | None, gap: float, blocks: int) -> dict[str, Any]:
        seconds = None if evaluations is None else evaluations / 2
        return {"searcher": "random", "blocks": blocks, "budget": 60, "evaluations": evaluations, "seconds": seconds,
                "gaps": [0.5, gap, 0.4], "asks": [0.25, 1.5, 0.75 + gap], "idle": 0.02 if blocks else None}  # fmt: skip

    rows = [row(20, 0.005, 2), row(None, 0.2, 2), row(30, 0.01, 2), row(None, 0.1, 0), row(None, 0.2, 0), row(7, 0, 0)]
    assert parts["optimize"].table(rows).splitlines()[2:] == [
        "| random | 2 | 30 | 15.0 | 2 of 3 | 1.0% | 2.00% | 0.76 (1.50) |",
        "| random | alone | more than 60 |  | 1 of 3 | 10.0% |  | 0.85 (1.50) |",
    ]


# What pruning gains.


class Clocked(Trainer):
    """An epoch takes a second or so; `seen` is when each ended, and its figure."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    async def train(self, group: Transport, work: Work, talk: Talk | None) -> tuple[Outcome | None, Weights | None]:
        if talk is None:
            return None, None
        for epoch in range(work.known + 1, 10):
            await group.compute(lambda: None, 1)
            figure = work.parameters["x"] + 1 / epoch
            self.seen.append((group.clock(), figure))
            if (await talk.epoch(epoch, figure)).say is not Say.ON:
                break
        status = {Say.ON: Status.DONE, Say.REST: Status.RESTING, Say.STOP: Status.PRUNED}
        return Outcome(status[talk.last.say], reason=talk.last.reason), None


@pytest.mark.parametrize(("pruner", "jitter", "off"), [("none", 0.2, 1.0), ("asha:reduction=3", 0.0, 0.01)])
def test_a_record_tells_when_each_epoch_ended(
    pruner: str, jitter: float, off: float, parts: dict[str, Any], tmp_path: Path
) -> None:
    """Exactly so where epochs take all the same; otherwise the ends of trials are right, and others about so."""
    trainer = Clocked()

    def make(clock: Callable[[], float]) -> tuple[Search, Watcher]:
        searcher = SEARCHERS["random"](Space([Real("x", 0.0, 1.0)]), 1, 30)
        figure = FigureOfMerit.of("val_loss")
        return Search(searcher, pruner_of(pruner, 9, 30), figure, clock, Record.begin(tmp_path, {})), Watcher()

    world = VirtualWorld(5, costs=Costs(compute=1.0, jitter=jitter))
    world.run(lambda transport: searched(transport, Blocks.of(5, 2), make, trainer, Signals()))
    record = read_record(tmp_path)
    assert record is not None
    began = [line.number for line in record.lines if line.status is Status.RUNNING]
    assert sorted(set(began)) == [*range(30)] and (len(began) > 30) == (pruner != "none"), "some rest, and go on"
    found = parts["pruning"].epochs_of(record.lines)
    assert sorted(figure for _, figure in found) == sorted(figure for _, figure in trainer.seen)
    when = {figure: end for end, figure in trainer.seen}
    assert all(end == pytest.approx(when[figure], abs=off) for end, figure in found)
    assert sum(end == pytest.approx(when[figure], abs=0.01) for end, figure in found) >= 30


def test_searches_are_compared_after_as_many_epochs(parts: dict[str, Any]) -> None:
    """The fourth epoch of the one comes too late, and the accuracy that both reach is 0.75."""
    one = [(1.0, 0.5), (2.0, 0.75), (3.0, 0.25), (4.0, 1.0)]
    other = [(0.5, 0.75), (1.5, 0.5), (2.5, 0.875)]
    found = parts["pruning"].compared({"one": one, "other": other})
    assert found["one"] == {
        "epochs": 3, "best": 0.75, "best_after": 2.0, "common": 0.75, "common_after": 2.0, "seconds": 3.0,
    }  # fmt: skip
    assert found["other"] == {
        "epochs": 3, "best": 0.875, "best_after": 2.5, "common": 0.75, "common_after": 0.5, "seconds": 2.5,
    }  # fmt: skip
    assert parts["pruning"].table([found]).splitlines()[2:] == [
        "| one | 3 | 3.0 | 0.750 | 2.0 | 2.0 |",
        "| other | 3 | 2.5 | 0.875 | 2.5 | 0.5 |",
    ]
