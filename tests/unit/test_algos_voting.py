"""What both voting modes have in common: the two ways to count, coins, rounding, and what must not leave a trace."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor

from nnlo.algos.sign import Sign, SignOptions
from nnlo.algos.vote import BinnedVote, BinnedVoteOptions
from nnlo.algos.voting import Voting, fill_zeros, rounded_mean
from nnlo.optim import OptimizerSpec
from tests.voting import Workers

N = 257
KINDS: dict[str, dict[str, Any]] = {
    "sign": {},
    "sign plus": {"zero": "plus"},
    "sign random": {"rand_zero": True, "vote_momentum": 0.5},
    "vote": {"num_bits": 3},
    "vote random": {"num_bits": 2, "rand_zero": True, "binning": "exp"},
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def made(kind: str, **more: Any) -> Voting:
    options = {**KINDS[kind], **more}
    return Sign(SignOptions(**options)) if kind.startswith("sign") else BinnedVote(BinnedVoteOptions(**options))


def gradients(turn: int, workers: int) -> list[Tensor | None]:
    """Whole numbers, many of them 0; in every third turn the first worker has none."""
    generator = torch.Generator().manual_seed(turn)
    drawn = [torch.randint(-2, 3, (N,), generator=generator).float() for _ in range(workers)]
    return [None if turn % 3 == 2 and i == 0 else one for i, one in enumerate(drawn)]


ADAM = OptimizerSpec.of("adam", {"lr": 0.01})
MOMENTUM = OptimizerSpec.of("momentum", {"lr": 0.01})


@pytest.mark.parametrize("optimizer", [ADAM, MOMENTUM], ids=["adam", "momentum"])
@pytest.mark.parametrize("count", [1, 2, 7])
@each_kind
def test_both_exchanges_give_the_same_weights_everywhere(kind: str, count: int, optimizer: OptimizerSpec) -> None:
    start = torch.linspace(-1, 1, N)
    forms = [Workers(made(kind, exchange=form), count, start, optimizer, seed=5) for form in ("server", "collective")]
    for turn in range(6):
        if count > 1 or turn % 3 != 2:
            first, second = (form.round(gradients(turn, count)) for form in forms)
            assert torch.equal(first, second)
    served, alone = forms
    assert not torch.equal(served.w, start)
    assert all(torch.equal(x, served.w) for x in (*served.x, *alone.x))


@each_kind
def test_a_saved_state_goes_on_in_the_same_way(kind: str) -> None:
    def build() -> Workers:
        return Workers(made(kind), 3, torch.zeros(N), ADAM, seed=2)

    whole, first, second = build(), build(), build()
    for turn in range(6):
        whole.round(gradients(turn, 3))
    for turn in range(3):
        first.round(gradients(turn, 3))
    file = io.BytesIO()
    torch.save([[*first.x, first.w], [plain(state) for state in (*first.states, first.master)]], file)
    file.seek(0)
    weights, states = torch.load(file, weights_only=True)
    for mine, theirs in zip((*second.x, second.w), weights, strict=True):
        mine.copy_(theirs)
    for mine, theirs in zip((*second.states, second.master), states, strict=True):
        restore(mine, theirs)
    for turn in range(3, 6):
        second.round(gradients(turn, 3))
    assert torch.equal(second.w, whole.w) and torch.equal(second.x[1], whole.x[1])


def plain(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value.state_dict() if hasattr(value, "state_dict") else value for key, value in state.items()}


def restore(state: dict[str, Any], saved: dict[str, Any]) -> None:
    for key, value in saved.items():
        if hasattr(state[key], "load_state_dict"):
            state[key].load_state_dict(value)
        elif isinstance(state[key], Tensor):
            state[key].copy_(value)
        else:
            state[key] = value


@pytest.mark.parametrize("kind", ["sign", "vote"])
def test_several_batches_are_their_mean_by_samples(kind: str) -> None:
    workers, one = Workers(made(kind, sync_every=2), 1, torch.zeros(3)), Workers(made(kind), 1, torch.zeros(3))
    batches = [(torch.tensor([4.0, 3.0, -1.0]), 1), (torch.tensor([-1.0, -1.0, -1.0]), 3)]
    for _ in range(2):  # nothing is left of the first update in the second
        workers.take_in(0, *batches[0])
        one.send(0, torch.tensor([0.25, 0.0, -1.0]))
        assert torch.equal(workers.send(0, *batches[1]), one.update[0])


def test_a_start_from_the_centre_forgets_unsent_gradients() -> None:
    workers = Workers(made("sign", sync_every=2), 1, torch.zeros(2))
    workers.take_in(0, torch.tensor([-9.0, 9.0]), 5)
    workers.algorithm.start(workers.x[0], torch.tensor([1.0, 2.0]), workers.states[0])
    assert workers.x[0].tolist() == [1, 2]
    assert workers.send(0, torch.tensor([1.0, -1.0])).tolist() == [1, -1]


@pytest.mark.parametrize("bad", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("sync_every", [1, 3])
@each_kind
def test_a_gradient_that_is_not_finite_is_sent_as_such_and_leaves_no_trace(
    kind: str, sync_every: int, bad: float
) -> None:
    workers = Workers(made(kind, sync_every=sync_every), 1, torch.zeros(N))
    workers.round(gradients(0, 1))
    before = copy.deepcopy({key: value for key, value in workers.states[0].items() if key not in ("sum", "optimizer")})
    gradient = torch.ones(N)
    gradient[7] = bad
    assert not torch.isfinite(workers.send(0, gradient)).all()
    for key, value in before.items():
        same = torch.equal(value, workers.states[0][key]) if isinstance(value, Tensor) else None
        assert workers.states[0][key] == value if same is None else same, key


@pytest.mark.parametrize("kind", ["sign", "vote"])
def test_finite_gradients_whose_sum_is_not_count(kind: str) -> None:
    workers = Workers(made(kind), 1, torch.zeros(4))
    most = 1 if kind == "sign" else 4
    assert workers.send(0, torch.tensor([3e38, 3e38, -3e38, 3e38])).tolist() == [most, most, -most, most]


# Coins.


def coins(seed: int, index: int, step: int, n: int = 10_000) -> Tensor:
    levels = torch.zeros(n)
    fill_zeros(levels, "random", (seed, index, step))
    return levels


def test_coins_are_fair() -> None:
    thrown = coins(0, 1, 0, 100_000)
    assert set(thrown.tolist()) == {-1.0, 1.0}
    assert abs(thrown.mean().item()) < 4 / 100_000**0.5


def test_every_worker_step_and_seed_has_coins_of_its_own() -> None:
    streams = [coins(*stream) for stream in ((0, 1, 0), (0, 2, 0), (0, 1, 1), (1, 1, 0), (0, 0, 1))]
    assert torch.equal(streams[0], coins(0, 1, 0))
    for i, one in enumerate(streams):
        for other in streams[:i]:
            assert abs((one * other).mean().item()) < 0.05


def test_other_levels_than_zero_stay() -> None:
    for zero, expected in (("zero", {0.0}), ("plus", {1.0}), ("random", {-1.0, 1.0})):
        levels = torch.tensor([3.0, 0.0, -2.0] * 50)
        fill_zeros(levels, zero, (0, 1, 2))
        assert set(levels[1::3].tolist()) == expected
        assert set(levels[::3].tolist()) == {3.0} and set(levels[2::3].tolist()) == {-2.0}


def test_workers_throw_unlike_coins_and_new_ones_in_every_step() -> None:
    workers = Workers(made("sign random"), 2, torch.zeros(N))
    first = [workers.send(i, torch.zeros(N)).clone() for i in range(2)]
    assert not torch.equal(*first)
    workers.round([torch.zeros(N)] * 2)
    assert not torch.equal(workers.send(0, torch.zeros(N)), first[0])
    other = Workers(made("sign random"), 2, torch.zeros(N), seed=1)
    assert not torch.equal(other.send(0, torch.zeros(N)), first[0])


# The mean.


def away(total: int, count: int) -> int:
    return -(-total // count) if total > 0 else total // count


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("most", "count"), [(1, 2), (4, 3), (128, 700), (256, 7)])
def test_the_mean_is_that_of_whole_numbers(most: int, count: int, dtype: torch.dtype) -> None:
    votes = torch.randint(-most, most + 1, (count, 500), generator=torch.Generator().manual_seed(0))
    votes[:, 0], votes[:, 1], votes[:, 2] = most, -most, 0
    found = rounded_mean(list(votes.to(dtype)), most, len(votes))
    assert found.dtype == dtype
    assert found.tolist() == [away(total, count) for total in votes.sum(0).tolist()]


def test_a_sum_beyond_the_type_is_exact() -> None:
    """600 times 2**15 is beyond 2**24, up to which float32 knows whole numbers."""
    votes = [torch.tensor([2.0**15, 2.0**15 - 1])] * 599 + [torch.tensor([2.0**15, 2.0**15])]
    assert rounded_mean([vote.clone() for vote in votes], 2**15, len(votes)).tolist() == [2**15, 2**15]


def test_the_votes_coins_are_no_workers() -> None:
    workers = Workers(Sign(SignOptions(rand_zero=True)), 2, torch.zeros(257))
    sent = {i: workers.send(i, torch.zeros(257)).clone() for i in range(2)}
    thrown = workers.exchange(sent)[sent[0] == -sent[1]]
    assert not any(torch.equal(thrown, one[: len(thrown)]) for one in sent.values())
