"""Binned votes, against the rules written out for one coordinate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from nnlo.algos.sign import Sign, SignOptions
from nnlo.algos.vote import BINNINGS, BinnedVote, BinnedVoteOptions
from nnlo.blocks import BLOCK
from nnlo.errors import OptionsError
from tests.voting import Workers, layout

each_binning = pytest.mark.parametrize("binning", BINNINGS)


def binned(**options: Any) -> BinnedVote:
    return BinnedVote(BinnedVoteOptions(**options))


def levels_of(values: Sequence[float], bits: int, binning: str, d_min: float, d_max: float) -> list[float]:
    """The levels of one coordinate's gradients, by the rules: the bounds begin as the first of them."""
    upper = lower = values[0]
    found = []
    for k, g in enumerate(values):
        if k:
            upper, lower = max(g, d_max * upper), min(g, d_min * lower)
        bound = upper if g > 0 else lower
        if g == 0:
            found.append(0.0)
            continue
        share = g / bound if binning == "lin" else math.log(abs(g) + 1.0001) / math.log(abs(bound) + 1.0001)
        found.append(math.copysign(math.ceil(2 ** (bits - 1) * share), g))
    return found


def dyadic(steps: int, n: int, seed: int = 3) -> Tensor:
    """Gradients, shape (steps, n), of powers of two and their sums, some of them 0, exact in float64."""
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randint(-64, 65, (steps, n), generator=generator)
    return whole.double() * 2.0 ** torch.randint(-6, 3, (1, n), generator=generator)


@each_binning
@pytest.mark.parametrize("bits", [1, 2, 3, 8, 16])
def test_levels_are_those_of_the_rules(bits: int, binning: str) -> None:
    series = dyadic(12, 40)
    algorithm = binned(num_bits=bits, binning=binning, decay_min=0.25, decay_max=0.5)
    workers = Workers(algorithm, 1, torch.zeros(40, dtype=torch.float64))
    found = torch.stack([workers.send(0, gradient).clone() for gradient in series])
    for column, values in zip(found.T.tolist(), series.T.tolist(), strict=True):
        assert column == levels_of(values, bits, binning, 0.25, 0.5)


def test_two_gradients_by_hand() -> None:
    for binning, second in (("lin", 2), ("exp", 3)):
        workers = Workers(binned(num_bits=3, binning=binning, decay_min=0.5, decay_max=0.5), 1, torch.zeros(2))
        assert [workers.send(0, torch.tensor([g, -g])).tolist() for g in (4.0, 1.0)] == [[4, -4], [second, -second]]


@each_binning
def test_one_bit_is_the_sign_and_the_vote_the_majority(binning: str) -> None:
    votes = Workers(binned(num_bits=1, binning=binning), 3, torch.zeros(200))
    signs = Workers(Sign(SignOptions()), 3, torch.zeros(200))
    for k in range(5):
        gradients = list(dyadic(3, 200, seed=k).float())
        vote = votes.round(gradients)
        assert torch.equal(vote, torch.stack(gradients).sign().sum(0).sign())
        assert torch.equal(vote, signs.round(gradients))
    assert torch.equal(votes.x[2], signs.x[2])


@each_binning
def test_bounds_that_are_forgotten_at_once_give_the_largest_levels(binning: str) -> None:
    workers = Workers(binned(num_bits=4, binning=binning, decay_min=1e-30, decay_max=1e-30), 1, torch.zeros(200))
    for gradient in dyadic(5, 200).float():
        assert torch.equal(workers.send(0, gradient), 8 * gradient.sign())


def test_each_bound_has_a_decay_of_its_own() -> None:
    """After 8 a gradient of 1 is an eighth of its bound, half of it, or all: level 1, 2 or 4 of 4."""
    for decays, expected in (((1.0, 0.25), [2, -1]), ((0.25, 1.0), [1, -2]), ((0.125, 0.25), [2, -4])):
        workers = Workers(binned(decay_min=decays[0], decay_max=decays[1]), 1, torch.zeros(2))
        workers.send(0, torch.tensor([8.0, -8.0]))
        assert workers.send(0, torch.tensor([1.0, -1.0])).tolist() == expected


@each_binning
@pytest.mark.parametrize("bits", [1, 5, 16])
def test_no_level_is_beyond_the_largest(bits: int, binning: str) -> None:
    """Also where gradients shrink by single bits of their mantissas."""
    algorithm, n = binned(num_bits=bits, binning=binning, decay_min=1.0, decay_max=1.0), BLOCK + 77
    workers, most = Workers(algorithm, 1, torch.zeros(n)), 2 ** (bits - 1)
    gradient = torch.logspace(-40, 30, n).mul(torch.tensor([1.0, -1.0]).repeat(n)[:n])
    for _ in range(4):
        found = workers.send(0, gradient)
        assert found.abs().max() == most and torch.equal(found.sign(), gradient.sign())
        gradient = torch.nextafter(gradient, torch.zeros(()))


def test_a_quotient_too_small_for_the_type_is_level_zero() -> None:
    workers = Workers(binned(num_bits=1, decay_max=1.0), 1, torch.zeros(1))
    assert [workers.send(0, torch.tensor([g])).item() for g in (1e3, 1e-45)] == [1, 0]


def test_the_vote_of_one_is_its_level() -> None:
    workers = Workers(binned(num_bits=5), 1, torch.zeros(200))
    for gradient in dyadic(4, 200).float():
        sent = workers.send(0, gradient).clone()
        assert torch.equal(workers.exchange({0: sent}), sent)


def test_the_mean_of_levels_is_rounded_away_from_zero() -> None:
    levels = torch.tensor([[4.0, 4.0, 4.0], [4.0, 4.0, 3.0], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [-4.0, -4.0, 1.0],
                           [-4.0, 4.0, 0.0], [1.0, 1.0, 1.0]])  # fmt: skip
    workers = Workers(binned(num_bits=3), 3, torch.zeros(7))
    assert workers.exchange(dict(enumerate(levels.T))).tolist() == [4, 4, 1, -1, -3, 0, 1]


def test_only_workers_that_are_present_are_counted() -> None:
    workers = Workers(binned(num_bits=3), 3, torch.zeros(1))
    assert workers.exchange({0: torch.tensor([4.0]), 2: torch.tensor([1.0])}).item() == 3
    assert workers.round([None, None, torch.tensor([7.0])]).item() == 4


def test_levels_are_applied_as_they_are() -> None:
    workers = Workers(binned(num_bits=3), 1, torch.zeros(2))
    workers.round([torch.tensor([1e-6, -1e6])])
    assert workers.x[0].tolist() == [-4 * 2.0**-5, 4 * 2.0**-5]


@pytest.mark.parametrize("bits", [1, 3, 8, 16])
def test_a_coin_saves_the_bit_of_zero(bits: int) -> None:
    for rand_zero, expected in ((True, bits), (False, bits + 1)):
        algorithm = binned(num_bits=bits, rand_zero=rand_zero)
        for codec in (algorithm.wire(layout(1001)), algorithm.reply_wire(layout(1001))):
            assert codec.nbytes == -(-1001 * expected // 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_bits": 0}, "--num-bits must be at least 1, not 0"),
        ({"num_bits": 17}, "--num-bits must be at most 16, not 17"),
        ({"decay_min": 0.0}, "--decay-min must be above 0, not 0.0"),
        ({"decay_max": -0.5}, "--decay-max must be above 0, not -0.5"),
        ({"decay_min": 1.01}, "--decay-min must be at most 1, not 1.01"),
        ({"decay_max": 2.0}, "--decay-max must be at most 1, not 2.0"),
        ({"binning": "log"}, "--binning: unknown value 'log': choose one of lin, exp"),
        (
            {"num_bits": 9, "count_usages": True},
            "--count-usages is for --num-bits 8 or less: drop it, or lower those",
        ),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError) as caught:
        BinnedVoteOptions(**options)
    assert str(caught.value) == message


@pytest.mark.parametrize("exchange", ["server", "collective"])
@pytest.mark.parametrize("rand_zero", [False, True])
def test_votes_are_counted(rand_zero: bool, exchange: str) -> None:
    algorithm = binned(num_bits=2, rand_zero=rand_zero, count_usages=True, exchange=exchange)
    workers = Workers(algorithm, 2, torch.zeros(300))
    expected = dict.fromkeys((level for level in range(-2, 3) if level or not rand_zero), 0)
    for k in range(3):
        for level in workers.round(list(dyadic(2, 300, seed=k).float())).tolist():
            expected[level] += 1
    counting = workers.master if exchange == "server" else workers.states[0]
    told = algorithm.report(counting)
    assert told == {"usages": {str(level): count for level, count in expected.items()}}
    assert sum(told["usages"].values()) == 900
    assert sum(algorithm.report(counting)["usages"].values()) == 0
    assert algorithm.report(workers.states[1]) == ({} if exchange == "server" else told), "any may come to report"


def test_votes_are_not_counted_unless_asked_for() -> None:
    algorithm = binned()
    assert algorithm.report(Workers(algorithm, 1, torch.zeros(3)).master) == {}
