"""Pruners against their definitions, and in a search of many blocks whose trials come in as they like."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlo.errors import OptionsError
from nnlo.optimize.pruners import PRUNERS, Leg, Pruner, pruner_of

NAN = math.nan


@dataclass
class Search:
    """A few lines of a coordinator: whichever block is free takes what the pruner says, or else a new trial.

    loss(number, epoch) is what a trial reports; it fails before the epoch fails(number).
    """

    pruner: Pruner[Any]
    loss: Callable[[int, int], float]
    fails: Callable[[int], float] = lambda number: math.inf
    curves: dict[int, list[float]] = field(default_factory=dict)
    resting: dict[int, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    stopped: set[int] = field(default_factory=set)
    legs: list[Leg] = field(default_factory=list)

    def next(self) -> Leg | None:
        leg = self.pruner.next_leg(self.resting, self.curves, self.ended)
        if leg is not None:
            assert self.resting.pop(leg.number) < leg.until <= self.pruner.epochs
        elif len(self.curves) < self.pruner.trials:
            leg = self.pruner.first_leg(len(self.curves))
            self.curves[leg.number] = []
        if leg is not None:
            self.legs.append(leg)
        return leg

    def epoch(self, leg: Leg) -> bool:
        """Train an epoch more; whether the leg goes on."""
        curve = self.curves[leg.number]
        if len(curve) + 1 >= self.fails(leg.number):
            self.ended.add(leg.number)
            return False
        curve.append(self.loss(leg.number, len(curve) + 1))
        if self.pruner.stops(leg.number, self.curves):
            self.stopped.add(leg.number)
        elif len(curve) < leg.until:
            return True
        if len(curve) == self.pruner.epochs or leg.number in self.stopped:
            self.ended.add(leg.number)
        else:
            self.resting[leg.number] = leg.until
        return False

    def run(self, blocks: int = 1, seed: int = 0) -> Search:
        """Until no block has anything to do; which one ends an epoch next is drawn."""
        draw, busy, free = random.Random(seed), [], blocks
        while True:
            while free and (leg := self.next()) is not None:
                busy, free = [*busy, leg], free - 1
            if not busy:
                return self
            leg = busy[draw.randrange(len(busy))]
            while self.epoch(leg):
                leg = busy[draw.randrange(len(busy))]
            busy.remove(leg)
            free += 1

    def sizes(self, *rungs: int) -> list[int]:
        """How many trials have reached each rung."""
        return [sum(len(curve) >= rung for curve in self.curves.values()) for rung in rungs]


def test_names() -> None:
    assert list(PRUNERS) == ["asha", "hyperband", "median", "none"]
    asha = pruner_of("asha:reduction=3,grace=2", 27, 5)
    assert (asha.epochs, asha.trials, asha.settings.recorded()) == (27, 5, {"reduction": 3, "grace": 2})
    assert pruner_of("asha", 27, 5).settings.recorded() == {"reduction": 4, "grace": 1}
    assert pruner_of("median", 27, 5).settings.recorded() == {"grace": 1, "min_trials": 3}
    assert pruner_of("hyperband", 27, 5).settings.recorded() == {"reduction": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ash", "--pruner: unknown pruner 'ash': choose one of asha, hyperband, median, none"),
        ("asha:eta=3", "--pruner asha:eta=3: no setting 'eta': it has reduction, grace"),
        ("asha:reduction=1", "--pruner asha:reduction=1: reduction must be at least 2, not 1"),
        ("asha:grace=0", "grace must be at least 1"),
        ("asha:grace=27", "27 epochs never rests: lower the grace, or give more --epochs"),
        ("median:grace=27", "27 epochs never stops early: lower the grace, or give more --epochs"),
        ("median:min_trials=0", "min_trials must be at least 1"),
        ("hyperband:reduction=28", "27 epochs never rests: give --epochs 28 or more"),
        ("hyperband:reduction=2.5", "reduction must be a whole number"),
    ],
)
def test_settings_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(OptionsError) as refused:
        pruner_of(text, 27, 10)
    assert said in str(refused.value) and "--pruner" in str(refused.value)


def test_without_a_pruner_all_are_trained_whole() -> None:
    search = Search(pruner_of("none", 5, 7), lambda number, epoch: 1.0).run(3)
    assert search.legs == [Leg(number, 5) for number in range(7)] and search.sizes(5) == [7]


COST = st.integers(-4, 4).map(lambda n: n / 2) | st.just(NAN)
CURVES = st.dictionaries(st.integers(0, 20), st.lists(COST, max_size=8), min_size=1, max_size=10)


@given(curves=CURVES, own=st.lists(COST, min_size=1, max_size=8), grace=st.integers(1, 7), least=st.integers(1, 5))
def test_median_stops_by_its_definition(
    curves: dict[int, list[float]], own: list[float], grace: int, least: int
) -> None:
    def known(value: float) -> float:
        return math.inf if math.isnan(value) else value

    epoch = len(own)
    means = [known(fmean(curve[:epoch])) for other, curve in curves.items() if other != 3 and len(curve) >= epoch]
    worse = bool(means) and min(map(known, own)) > median(means)
    wanted = worse and len(means) >= least and grace <= epoch < 8
    pruner = pruner_of(f"median:grace={grace},min_trials={least}", 8, 21)
    assert (pruner.stops(3, {**curves, 3: own}) is not None) == wanted


def test_median_looks_at_running_means_and_the_best_so_far() -> None:
    others = {1: [4.0, 2.0], 2: [6.0, 0.0, 9.0], 3: [1.0, 1.0]}  # means 3, 3, 1 after two epochs
    pruner = pruner_of("median", 9, 9)
    assert pruner.stops(0, {0: [3.0, 8.0], **others}) is None
    assert pruner.stops(0, {0: [3.1, 8.0], **others}) == (
        "after epoch 2 its best is worse than the median of the means of 3 others"
    )
    assert pruner.stops(0, {0: [NAN, NAN], **others}) is not None
    assert pruner.stops(0, {0: [9.0, 9.0, 9.0], **others}) is None  # one other alone has got so far
    assert pruner_of("median", 2, 9).stops(0, {0: [9.0, 9.0], **others}) is None  # it has come to its end


@pytest.mark.parametrize(("order", "sizes"), [(1, [27, 9, 3, 1]), (-1, [27, 25, 23, 21])])
def test_asha_with_one_block(order: int, sizes: list[int]) -> None:
    """Losses that get worse with arrival, and losses that get better: every new trial is then the best of its rung."""
    search = Search(pruner_of("asha:reduction=3", 27, 27), lambda number, epoch: float(order * number)).run()
    assert search.sizes(1, 3, 9, 27) == sizes


@pytest.mark.parametrize(
    ("text", "epochs", "rungs"),
    [
        ("asha", 65, [1, 4, 16, 64, 65]),
        ("asha", 64, [1, 4, 16, 64]),
        ("asha:grace=3,reduction=2", 20, [3, 6, 12, 20]),
        ("asha:grace=5", 6, [5, 6]),
        ("hyperband", 81, [1, 3, 9, 27, 81]),
        ("hyperband", 100, [1, 3, 11, 33, 100]),
        ("hyperband:reduction=4", 64, [1, 4, 16, 64]),
        ("hyperband:reduction=10", 1000, [1, 10, 100, 1000]),
        ("hyperband:reduction=3", 3**8 - 1, [2, 8, 26, 80, 242, 728, 2186, 6560]),
    ],
)
def test_rungs(text: str, epochs: int, rungs: list[int]) -> None:
    """Those of the best of many; log(1000, 10) is 2.9999999999999996 in floating-point numbers."""
    pruner = pruner_of(text, epochs, 3**8)
    reached = [pruner.first_leg(0).until]
    while reached[-1] < epochs:
        leg = pruner.next_leg({0: reached[-1]}, dict.fromkeys(range(3**8), [0.0] * reached[-1]), ())
        assert leg is not None and leg.number == 0
        reached.append(leg.until)
    assert reached == rungs
    for trained in range(0, epochs + 1, max(1, epochs // 300)):
        assert pruner.first_leg(0, trained) == Leg(0, min((rung for rung in rungs if rung > trained), default=epochs))


def test_asha_looks_from_the_highest_rung_down_and_takes_the_first_of_equals() -> None:
    pruner = pruner_of("asha:reduction=2", 8, 99)
    curves = {0: [1.0, 5.0], 1: [1.0, 4.0], 2: [0.0], 3: [0.0], 4: [7.0], 5: [7.0]}
    assert pruner.next_leg({0: 2, 1: 2, 2: 1, 3: 1, 4: 1, 5: 1}, curves, ()) == Leg(1, 4)
    assert pruner.next_leg({0: 2, 2: 1, 3: 1, 4: 1, 5: 1}, curves, ()) == Leg(2, 2)
    assert pruner.next_leg({0: 2, 3: 1, 4: 1, 5: 1}, curves, {2}) == Leg(3, 2)
    assert pruner.next_leg({0: 2, 4: 1, 5: 1}, curves, {2, 3}) is None  # the best three of six were promoted
    assert pruner.next_leg({0: 1, 1: 1}, {0: [NAN], 1: [NAN]}, ()) is None


def test_the_brackets_of_hyperband() -> None:
    pruner = pruner_of("hyperband", 81, 2 * 143 + 10)
    begin = [pruner.first_leg(number).until for number in range(pruner.trials)]
    once = [1] * 81 + [3] * 34 + [9] * 15 + [27] * 8 + [81] * 5
    assert begin == [*once, *once, *[1] * 10]


def test_the_rungs_of_hyperband_with_one_block() -> None:
    """Table 1 of the paper: (n_i, r_i) of each bracket, whatever the losses; and the best of a rung go on."""
    losses = [float(loss) for loss in random.Random(1).sample(range(143), 143)]
    search = Search(pruner_of("hyperband", 81, 143), lambda number, epoch: losses[number]).run()
    table = [(81, [81, 27, 9, 3, 1]), (34, [34, 11, 3, 1]), (15, [15, 5, 1]), (8, [8, 2]), (5, [5])]
    first = 0
    for size, wanted in table:
        rungs = [81 // 3**i for i in range(len(wanted) - 1, -1, -1)]
        ranked = sorted(range(first, first + size), key=lambda number: losses[number])
        for rung, count in zip(rungs, wanted, strict=True):
            reached = {number for number in range(first, first + size) if len(search.curves[number]) >= rung}
            assert reached == set(ranked[:count])
        first += size


def test_hyperband_waits_until_all_trials_of_a_rung_are_in() -> None:
    pruner = pruner_of("hyperband", 9, 9 + 5 + 3)
    curves = {number: [float(number)] for number in range(8)}
    resting = dict.fromkeys(range(8), 1)
    assert pruner.next_leg(resting, curves, ()) is None
    assert pruner.next_leg(resting, {**curves, 8: []}, ()) is None
    assert pruner.next_leg(resting, {**curves, 8: []}, {8}) == Leg(0, 3)
    assert pruner.next_leg({**resting, 8: 1}, {**curves, 8: [-1.0]}, ()) == Leg(8, 3)
    going = {**curves, 0: [0.0, 0.0, 4.0], 1: [1.0, 1.0, 3.0], 2: [2.0]}
    rest = dict.fromkeys(range(3, 8), 1)
    assert pruner.next_leg(rest | {0: 3, 1: 3}, going, {8}) is None
    assert pruner.next_leg(rest | {0: 3, 1: 3}, going, {2, 8}) == Leg(1, 9)


def test_trials_that_fail_are_the_worst_of_their_rung() -> None:
    """21 of 27 do before the first rung: all others go on to the second one, and 3 of those, as of 9, to the third."""
    fails = dict.fromkeys(range(21), 1.0)
    search = Search(
        pruner_of("hyperband", 27, 27), lambda number, epoch: float(number), lambda number: fails.get(number, 99)
    ).run(4)
    assert search.sizes(1, 3, 9, 27) == [6, 6, 3, 1] and len(search.curves[21]) == 27


def test_a_bracket_that_the_search_does_not_fill() -> None:
    """Shares of the trials that there are, one at least: of 5 and of 1 here, for brackets of 9 and 5."""
    for trials, sizes in ((5, [5, 1, 1]), (1, [1, 1, 1])):
        search = Search(pruner_of("hyperband", 9, trials), lambda number, epoch: float(-number)).run(2)
        assert search.sizes(1, 3, 9) == sizes
    search = Search(pruner_of("hyperband", 9, 10), lambda number, epoch: float(number)).run(2)
    assert search.sizes(3, 9) == [4, 2] and len(search.curves[9]) == 9


@pytest.mark.parametrize(
    ("text", "trials"),
    [("none", 200), ("median", 200), ("asha", 1000), ("asha:reduction=2,grace=3", 300), ("hyperband", 1000)],
)
def test_many_blocks_and_trials_that_fail(text: str, trials: int) -> None:
    """Nothing waits for ever, nothing is trained beyond the end, and the rungs are as defined."""
    draw = random.Random(trials)
    losses = [draw.random() if draw.random() < 0.9 else NAN for _ in range(trials)]
    fails = [draw.randint(1, 90) if draw.random() < 0.2 else math.inf for _ in range(trials)]
    search = Search(pruner_of(text, 81, trials), lambda number, epoch: losses[number] + 1 / epoch, fails.__getitem__)
    search.run(64)
    assert sorted(search.curves) == list(range(trials)) == sorted({*search.resting, *search.ended})
    assert max(map(len, search.curves.values())) == 81
    assert search.pruner.next_leg(search.resting, search.curves, search.ended) is None
    {"asha": check_asha, "hyperband": check_hyperband}.get(text.partition(":")[0], check_whole)(search)


def check_whole(search: Search) -> None:
    """All are trained whole but for those that failed or were stopped."""
    assert not search.resting
    short = {one for one, curve in search.curves.items() if len(curve) < 81}
    assert all(one in search.stopped or search.fails(one) <= 81 for one in short)
    assert bool(search.stopped) == (search.pruner.stops.__func__ is not Pruner.stops)  # type: ignore[attr-defined]


def check_asha(search: Search) -> None:
    """The best of each rung that have a cost were promoted, or failed, and the others were among the best once."""
    eta, grace = search.pruner.settings.reduction, search.pruner.settings.grace
    for rung in [rung for rung in (grace * eta**k for k in range(8)) if rung < 81]:
        reached = {one: curve[rung - 1] for one, curve in search.curves.items() if len(curve) >= rung}
        ranked = sorted((one for one in reached if not math.isnan(reached[one])), key=lambda one: (reached[one], one))
        promoted = {leg.number for leg in search.legs if leg.until == min(rung * eta, 81)}
        assert set(ranked[: len(reached) // eta]) <= promoted
        assert promoted <= set(ranked) and len(promoted) < len(reached)
        assert set(reached) - promoted <= {*search.resting, *(one for one in reached if search.fails(one) <= rung)}


def check_hyperband(search: Search) -> None:
    """By the definition: bracket by bracket, rung by rung, from the losses and failures alone."""
    first, s = 0, 4
    sizes = {4: 81, 3: 34, 2: 15, 1: 8, 0: 5}
    wanted: list[Leg] = []
    while first < search.pruner.trials:
        going: Sequence[int] = range(first, min(first + sizes[s], search.pruner.trials))
        size, rung = len(going), 81 // 3**s
        wanted += [Leg(one, rung) for one in going]
        while rung < 81:
            size //= 3
            alive = [one for one in going if search.fails(one) > rung and not math.isnan(search.loss(one, rung))]
            going = sorted(alive, key=lambda one: (search.loss(one, rung), one))[: max(1, size)]
            rung *= 3
            wanted += [Leg(one, rung) for one in going]
        first, s = first + sizes[s], s - 1 if s else 4
    assert sorted((leg.number, leg.until) for leg in search.legs) == sorted((leg.number, leg.until) for leg in wanted)


@pytest.mark.parametrize("text", ["asha:reduction=3", "hyperband"])
def test_a_search_goes_on_from_its_record(text: str) -> None:
    """With one block: cut off at any leg and taken up by a new pruner, it makes the same legs."""

    def loss(number: int, epoch: int) -> float:
        return random.Random(number).random() / epoch

    whole = Search(pruner_of(text, 27, 60), loss).run().legs
    for cut in (1, 20, 45, len(whole) - 2):
        search = Search(pruner_of(text, 27, 60), loss)
        for _ in range(cut):
            leg = search.next()
            while leg is not None and search.epoch(leg):
                pass
        search.pruner = pruner_of(text, 27, 60)
        assert search.run().legs == whole
