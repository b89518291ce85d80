"""signSGD with majority vote and SIGNUM, against the equations of Bernstein et al. 2019."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from nnlo.algos.sign import Sign, SignOptions
from nnlo.errors import OptionsError
from nnlo.optim import OptimizerSpec
from tests.voting import SGD, Workers, layout

RATE = 2.0**-5


def sign(**options: Any) -> Sign:
    return Sign(SignOptions(**options))


def gradients(count: int, n: int = 101, seed: int = 1) -> list[Tensor]:
    """Small whole numbers, some of them 0."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(-3, 4, (n,), generator=generator).float() for _ in range(count)]


def test_one_worker_is_sign_sgd() -> None:
    workers, expected = Workers(sign(), 1, torch.ones(101)), torch.ones(101)
    for gradient in gradients(5):
        workers.round([gradient])
        expected -= RATE * torch.tensor([(g > 0) - (g < 0) for g in gradient.tolist()])
    assert torch.equal(workers.x[0], expected) and torch.equal(workers.w, expected)


def test_the_majority_wins_and_a_tie_is_zero() -> None:
    columns = torch.tensor([[1.0, 2.0, -9.0], [1.0, -3.0, -1.0], [4.0, -5.0, 0.5], [0.0, 0.25, -1.0], [-1.0, 7.0, 0.0]])
    workers = Workers(sign(), 3, torch.zeros(5))
    assert workers.round(list(columns.T)).tolist() == [1, -1, 1, 0, 0]


def test_momentum_is_taken_before_the_sign() -> None:
    beta, workers, plain = (
        0.75,
        Workers(sign(vote_momentum=0.75), 1, torch.zeros(3)),
        Workers(sign(), 1, torch.zeros(3)),
    )
    velocity, expected = [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    for gradient in ([4.0, -2.0, 0.0], [-1.0, -1.0, 0.0], [1.0, 8.0, -1.0]):
        workers.round([torch.tensor(gradient)])
        plain.round([torch.tensor(gradient)])
        velocity = [(1 - beta) * g + beta * v for g, v in zip(gradient, velocity, strict=True)]
        expected = [x - RATE * ((v > 0) - (v < 0)) for x, v in zip(expected, velocity, strict=True)]
    assert workers.x[0].tolist() == expected
    assert workers.states[0]["velocity"].tolist() == velocity
    assert plain.x[0].tolist() != expected


def test_no_momentum_is_sign_sgd() -> None:
    """The same weights as with a velocity that keeps nothing, and no memory for one."""
    plain = Workers(sign(vote_momentum=0.0), 2, torch.zeros(101))
    kept = Workers(sign(vote_momentum=1e-30), 2, torch.zeros(101))
    for pair in zip(gradients(4), gradients(4, seed=2), strict=True):
        both = [one.abs().add(1).mul(one.sign().add(0.5).sign()) for one in pair]  # none is 0
        plain.round(both)
        kept.round(both)
    assert torch.equal(plain.x[0], kept.x[0])
    assert "velocity" in kept.states[0] and "velocity" not in plain.states[0]


def test_three_adversaries_of_seven_change_nothing() -> None:
    honest, attacked = Workers(sign(), 7, torch.zeros(101)), Workers(sign(), 7, torch.zeros(101))
    beaten = Workers(sign(), 7, torch.zeros(101))
    for gradient in gradients(4):
        honest.round([gradient] * 7)
        attacked.round([gradient, -gradient] * 3 + [gradient])
        beaten.round([-gradient, gradient] * 3 + [-gradient])
    assert torch.equal(attacked.w, honest.w)
    assert torch.equal(beaten.w, -honest.w)


def test_sign_sgd_is_adam_without_memory() -> None:
    """Adam with beta1 = beta2 = eps = 0 divides a gradient by its size; not where that is 0."""
    workers, w = Workers(sign(), 1, torch.zeros(101)), torch.zeros(101)
    adam = OptimizerSpec.of("adam", {"lr": RATE, "betas": (0.0, 0.0), "eps": 0.0}, fused=False).build(w)
    for gradient in gradients(5):
        whole = gradient.abs().add(1).mul(gradient.add(0.5).sign())
        workers.round([whole])
        adam.step(w, whole)
    assert torch.equal(workers.x[0], w)


def test_weight_decay_is_that_of_the_optimizer() -> None:
    """x - eta (sgn V + lambda x)."""
    spec = OptimizerSpec.of("sgd", {"lr": RATE, "weight_decay": 0.5}, fused=False)
    workers = Workers(sign(), 1, torch.tensor([2.0, -4.0]), spec)
    workers.round([torch.tensor([-3.0, 0.0])])
    assert workers.x[0].tolist() == [2 - RATE * (-1 + 1), -4 - RATE * (0 - 2)]


@pytest.mark.parametrize(
    ("options", "bits"), [({}, 2), ({"zero": "zero"}, 2), ({"zero": "plus"}, 1), ({"rand_zero": True}, 1)]
)
def test_zero_alone_needs_a_second_bit(options: dict[str, Any], bits: int) -> None:
    algorithm = sign(**options)
    assert algorithm.wire(layout(1001)).nbytes == algorithm.reply_wire(layout(1001)).nbytes == -(-1001 * bits // 8)


def test_zeros_and_ties_become_plus_one() -> None:
    workers = Workers(sign(zero="plus"), 2, torch.zeros(4))
    zeros = torch.tensor([0.0, 0.0, 2.0, -1.0]), torch.tensor([0.0, -1.0, -2.0, -3.0])
    assert workers.send(0, zeros[0]).tolist() == [1, 1, 1, -1]
    assert workers.round(list(zeros)).tolist() == [1, 1, 1, -1]


def test_rand_zero_is_zero_random() -> None:
    first, second = (
        Workers(sign(rand_zero=True), 3, torch.zeros(101)),
        Workers(sign(zero="random"), 3, torch.zeros(101)),
    )
    for k in range(3):
        votes = [one.round(gradients(3, seed=k)) for one in (first, second)]
        assert torch.equal(*votes) and set(votes[0].tolist()) == {-1, 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"zero": "plus", "rand_zero": True}, "--rand-zero is --zero random: drop it, or --zero plus"),
        ({"zero": "minus"}, "--zero: unknown value 'minus': choose one of zero, plus, random"),
        ({"vote_momentum": 1.0}, "--vote-momentum must be below 1, not 1.0"),
        ({"vote_momentum": -0.1}, "--vote-momentum must be at least 0, not -0.1"),
        ({"exchange": "gossip"}, "--exchange: unknown value 'gossip': choose one of server, collective"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError) as caught:
        SignOptions(**options)
    assert str(caught.value) == message


def test_momentum_goes_on_from_a_saved_state() -> None:
    whole, first = (Workers(sign(vote_momentum=0.9), 1, torch.zeros(101), SGD) for _ in range(2))
    second = Workers(sign(vote_momentum=0.9), 1, torch.zeros(101), SGD)
    turns = gradients(4)
    for workers in (whole, first):
        for gradient in turns[:3]:
            workers.round([gradient])
    second.states[0]["velocity"].copy_(first.states[0]["velocity"])
    forgetful = Workers(sign(vote_momentum=0.9), 1, torch.zeros(101), SGD)
    votes = [one.round([turns[3]]) for one in (whole, second, forgetful)]
    assert torch.equal(votes[0], votes[1]) and not torch.equal(votes[0], votes[2])
