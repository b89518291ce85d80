"""Parts of the gradient that start to be reduced while the backward pass runs: which, when, and in one order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from nnlo.comm.base import Source
from nnlo.errors import TrainingError
from nnlo.flat import Flat, Layout
from nnlo.gradients import Gradients
from nnlo.roles.buckets import Buckets, runs_of

FLOAT = 4


class Started(Source):
    """A sum under way."""

    def __init__(self, part: Tensor) -> None:
        self.part = part
        self.was = part.clone()

    @property
    def ready(self) -> bool:
        return True


class Rank:
    """One worker: its module on a flat gradient, what it started, and a diary of that and of its own words."""

    def __init__(self, module: nn.Module, nbytes: int = 1) -> None:
        self.module, layout = module, Layout.of(module)
        self.gradient, self.buffers = torch.zeros(layout.numel), torch.zeros(1)
        Flat(module, layout, torch.zeros(layout.numel), self.buffers)
        Gradients(module, layout, self.gradient)
        self.diary: list[str] = []
        self.started: list[Started] = []
        self.names = {slot.offset: slot.name for slot in layout.parameters}
        self.moves = 0
        self.buckets = Buckets(module, layout, self.gradient, self.buffers, self.reduce, self.move, nbytes)

    def move(self) -> None:
        self.moves += 1
        assert self.started, "nothing is under way"

    def reduce(self, part: Tensor) -> Source:
        assert part.data_ptr() >= self.gradient.data_ptr()
        self.diary.append(self.names[int(part.storage_offset())])
        self.started.append(Started(part))
        return self.started[-1]

    def round(self, x: Tensor | None, loss: Callable[[Tensor], Tensor] = torch.sum) -> list[str]:
        """A gradient of these samples, of none if None; what was started, around the end of the backward pass."""
        self.diary, self.started = [], []
        self.gradient.zero_()
        self.buckets.begin(0 if x is None else len(x))
        if x is not None:
            loss(self.module(x)).backward()  # type: ignore[no-untyped-call]
        self.diary.append("|")
        assert self.buckets.finish() == self.started
        return self.diary


def chain() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(2, 1))


X = torch.arange(6.0).view(2, 3)
LAST_FIRST = ["2.bias", "2.weight", "1.bias", "1.weight", "0.bias", "0.weight"]


def test_the_first_round_is_watched_and_then_parts_start_during_the_backward_pass() -> None:
    rank = Rank(chain())
    assert rank.round(X) == ["|", *LAST_FIRST]
    for _ in range(2):
        assert rank.round(X) == [*LAST_FIRST, "|"]


def test_parts_are_whole_when_they_start_and_weighed_by_the_samples() -> None:
    rank, module = Rank(chain()), chain()
    rank.round(X)
    with torch.no_grad():
        for mine, theirs in zip(rank.module.parameters(), module.parameters(), strict=True):
            assert torch.equal(mine, theirs)
    rank.round(X)
    torch.sum(module(X)).backward()  # type: ignore[no-untyped-call]
    wanted = [2 * parameter.grad.flatten() for parameter in module.parameters() if parameter.grad is not None]
    assert all(torch.equal(source.was, g) for source, g in zip(rank.started, reversed(wanted), strict=True))
    assert torch.equal(rank.gradient, torch.cat(wanted))


def summed(ranks: list[Rank]) -> None:
    """What the sums leave on every rank; they have to match, part by part."""
    for parts in zip(*(rank.started for rank in ranks), strict=True):
        assert len({part.part.storage_offset() for part in parts}) == 1
        total = torch.stack([part.part for part in parts]).sum(0)
        for part in parts:
            part.part.copy_(total)


def test_a_worker_without_a_batch_takes_part_with_zeros_in_the_same_order() -> None:
    ranks = [Rank(chain(), 30) for _ in range(3)]
    for rank in ranks:
        rank.round(X)
    alone = ranks[0].gradient.clone()
    early, idle, late = ranks[0].round(X), ranks[1].round(None), ranks[2].round(X[:1])
    assert early[-1] == "|" and idle[0] == "|" and late[-1] == "|"
    assert [name for name in idle if name != "|"] == early[:-1]
    before = ranks[2].gradient.clone()
    assert not ranks[1].gradient.any()
    summed(ranks)
    assert all(torch.equal(rank.gradient, alone + before) for rank in ranks)


def test_what_a_worker_without_a_batch_had_in_its_gradient_is_dropped() -> None:
    rank = Rank(chain())
    rank.gradient.fill_(torch.nan)
    rank.buckets.begin(0)
    rank.buckets.finish()
    assert not rank.gradient.any()


def test_a_first_round_without_a_batch_is_not_the_one_that_is_watched() -> None:
    rank = Rank(chain())
    rank.round(None)
    assert rank.round(X)[0] == "|"
    assert rank.round(X)[-1] == "|"


class Some(nn.Module):
    """The middle layer is not used unless it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 1)
        self.skips = True

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.last(x if self.skips else self.middle(x))  # type: ignore[no-any-return]


def test_parameters_without_a_gradient_start_when_the_backward_pass_is_over() -> None:
    module = Some()
    rank = Rank(module)
    rank.round(X)
    rest = ["middle.bias", "middle.weight", "first.bias", "first.weight"]
    assert rank.round(X) == ["last.bias", "last.weight", "|", *rest]
    module.skips = False
    assert rank.round(X) == ["last.bias", "last.weight", *rest, "|"]


class Backwards(nn.Module):
    """Its last layer by name is the first that is used."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 1, bias=False), nn.Linear(3, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.a(self.b(x))  # type: ignore[no-any-return]


def test_the_order_of_the_parts_does_not_depend_on_that_of_the_gradients() -> None:
    rank = Rank(Backwards())
    rank.round(X)
    assert rank.round(X) == ["b.weight", "a.weight", "|"]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(3, 3), nn.Linear(3, 3)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))  # type: ignore[no-any-return]


def test_tied_parameters_are_one() -> None:
    rank = Rank(Tied())
    rank.round(X)
    assert rank.round(X) == ["decoder.bias", "encoder.bias", "encoder.weight", "|"]


def test_frozen_parameters_are_left_out() -> None:
    module = chain()
    module[1].requires_grad_(False)
    rank = Rank(module)
    rank.round(X)
    assert rank.round(X) == ["2.bias", "2.weight", "0.bias", "0.weight", "|"]


def twice(output: Tensor) -> Tensor:
    """A loss whose first half has been taken backwards already."""
    output[:1].sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
    return output[1:].sum()


def test_gradients_that_come_in_several_steps_are_reduced_when_all_are_there() -> None:
    rank = Rank(chain())
    for _ in range(3):
        assert rank.round(X, twice) == ["|", *LAST_FIRST]
    reference = Rank(chain())
    reference.round(X)
    torch.testing.assert_close(rank.gradient, reference.gradient)


@pytest.mark.parametrize("nbytes", [1, 10**9])
def test_gradients_that_begin_to_come_in_several_steps_are_noticed(nbytes: int) -> None:
    rank = Rank(chain(), nbytes)
    rank.round(X)
    with pytest.raises(TrainingError, match=r"gradient of '2.bias' in several steps.*--bucket-mib 0"):
        rank.round(X, twice)


def test_a_gradient_that_is_not_finite_from_the_start_is_left_out() -> None:
    rank = Rank(chain())
    for _ in range(2):
        assert rank.round(X, lambda output: output.sum() * torch.nan)[0] == "|"
        assert not rank.buckets.good
        assert not rank.gradient.any()
    rank.round(X)
    assert rank.buckets.good


def test_buffers_that_are_not_finite_leave_the_gradient_out() -> None:
    rank = Rank(chain())
    rank.buffers.fill_(torch.inf)
    for _ in range(2):
        assert rank.round(X)[0] == "|"
        assert not rank.buckets.good
        assert not rank.gradient.any()


def test_a_gradient_that_ceases_to_be_finite_spoils_the_sum() -> None:
    """The weight's gradient alone is inf times the loss's; those after the first part are."""
    module = chain()
    rank = Rank(module)
    rank.round(X)
    with torch.no_grad():
        module[2].weight.fill_(torch.inf)
    assert rank.round(X)[0] == "2.bias"
    assert not rank.buckets.good
    assert rank.buckets.spoils
    with torch.no_grad():
        module[2].weight.fill_(1.0)
    rank.round(X)
    assert rank.buckets.good
    assert not rank.buckets.spoils


def test_a_gradient_that_is_left_out_spoils_nothing() -> None:
    rank = Rank(chain())
    rank.round(X)
    rank.round(X, lambda output: output.sum() * torch.nan)
    assert not rank.buckets.spoils


def test_what_is_under_way_moves_on_with_every_gradient() -> None:
    rank = Rank(chain())
    rank.round(X)
    assert rank.moves == 0
    rank.round(X)
    assert rank.moves == len(LAST_FIRST)


def test_the_module_is_left_as_it_was() -> None:
    rank = Rank(chain())
    rank.round(X)
    rank.buckets.close()
    assert rank.round(X)[0] == "|"


def test_a_worker_without_a_batch_is_not_counted() -> None:
    rank = Rank(chain())
    rank.round(None)
    assert not rank.buckets.good


def test_other_backward_passes_start_nothing() -> None:
    rank = Rank(chain())
    rank.round(X)
    rank.diary.clear()
    rank.module(X).sum().backward()
    assert rank.diary == []


@pytest.mark.parametrize(
    ("nbytes", "runs"),
    [
        (1, [[5], [4], [3], [2], [1], [0]]),
        (3 * FLOAT, [[4, 5], [2, 3], [1], [0]]),
        (10 * FLOAT, [[2, 3, 4, 5], [0, 1]]),
        (10**9, [[0, 1, 2, 3, 4, 5]]),
    ],
)
def test_parts_are_runs_of_whole_parameters(nbytes: int, runs: list[list[int]]) -> None:
    """Of 12, 4, 8, 2, 2 and 1 elements."""
    assert [list(run) for run in runs_of(Layout.of(chain()), nbytes)] == runs


def test_one_huge_parameter_is_a_part_of_its_own() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1000), nn.Linear(1000, 1))
    assert [list(run) for run in runs_of(Layout.of(module), 1000 * FLOAT)] == [[4, 5], [3], [2], [0, 1]]
    assert [list(run) for run in runs_of(Layout.of(module.double()), 2000 * FLOAT)] == [[4, 5], [3], [2], [0, 1]]
