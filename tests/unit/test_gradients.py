"""A backward pass's gradients in one vector: large ones are copied there, small ones made there, others are 0."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnlo.flat import Layout
from nnlo.gradients import LARGE, Gradients

WIDE = LARGE // 4


class Branches(nn.Module):
    """A large and a small layer that are used, the same of which none is, and an embedding of sparse gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small = nn.Linear(4, WIDE), nn.Linear(WIDE, 3)
        self.idle_large, self.idle_small = nn.Linear(4, WIDE), nn.Linear(4, 3)
        self.words = nn.Embedding(LARGE, 4, sparse=True)
        self.uses_all, self.twice = False, False

    def forward(self, x: Tensor) -> Tensor:
        given = self.words(x)
        hidden: Any = checkpoint(self.large, given, use_reentrant=True) if self.twice else self.large(given)
        if self.twice:
            hidden = hidden + checkpoint(self.large, 2 * given, use_reentrant=True)
        out: Tensor = self.small(hidden)
        if self.uses_all:
            out = out + self.small(self.idle_large(given)) + self.idle_small(given)
        return out


def expected(module: nn.Module, x: Tensor) -> Tensor:
    """By torch alone, on a module without hooks."""
    plain = Branches()
    plain.load_state_dict(module.state_dict())
    plain.uses_all, plain.twice = module.uses_all, module.twice  # type: ignore[assignment]
    plain(x).square().sum().backward()
    found = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense() for p in plain.parameters()]
    return torch.cat([gradient.flatten() for gradient in found])


@pytest.mark.parametrize("twice", [False, True], ids=["once", "in two parts"])
def test_gradients_are_torchs_pass_after_pass(twice: bool) -> None:
    torch.manual_seed(0)
    module, x = Branches(), torch.tensor([1, 2, 2, LARGE - 1])
    layout = Layout.of(module)
    assert {slot.size >= LARGE for slot in layout.parameters} == {True, False}
    gradients = Gradients(module, layout, torch.full((layout.numel,), torch.nan))
    for uses_all in (True, False, True):
        module.uses_all, module.twice = uses_all, twice
        gradients.begin()
        module(x).square().sum().backward()
        gradients.end()
        torch.testing.assert_close(gradients.vector, expected(module, x))


def test_no_pass_gives_zeros() -> None:
    module = nn.Linear(LARGE, 1)
    layout = Layout.of(module)
    gradients = Gradients(module, layout, torch.full((layout.numel,), torch.nan))
    gradients.begin()
    gradients.end()
    assert not gradients.vector.any()


class Silent(torch.autograd.Function):
    """Gives no gradient to its first argument."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, x: Tensor) -> Tensor:
        return x * 1.0

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        return None, gradients[0]


def test_a_function_that_gives_no_gradient_gives_zeros_when_its_turn_comes() -> None:
    """Not at the end of the pass alone: what is summed on its way begins to leave before."""
    module = nn.Linear(LARGE, 1, bias=False)
    gradients = Gradients(module, Layout.of(module), torch.full((LARGE,), torch.nan))
    gradients.begin()
    Silent.apply(module.weight, torch.ones(1, requires_grad=True)).sum().backward()
    assert not gradients.vector.any()
    gradients.end()
    assert not gradients.vector.any()


def test_what_was_handed_over_is_not_kept_and_a_closed_one_leaves_the_module_to_torch() -> None:
    module = nn.Linear(LARGE, 1)
    gradients = Gradients(module, Layout.of(module), torch.zeros(LARGE + 1))
    module(torch.ones(1, LARGE)).sum().backward()
    assert module.weight.grad is None and module.bias.grad is not None
    gradients.close()
    module(torch.ones(1, LARGE)).sum().backward()
    assert module.weight.grad is not None and module.bias.grad == 1.0
