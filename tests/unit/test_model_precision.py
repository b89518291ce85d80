"""Mixed precision: what autocast computes, and a scale that saves small gradients and survives large ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnlo import Algo
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import OptionsError, TrainingError
from nnlo.model import GradientStep, ScaledStep, check_amp, get_amp, get_loss
from nnlo.model.precision import FIRST_SCALE, PATIENCE
from tests.jobs import Rows, labelled, train_here

CE = get_loss("sparse_categorical_crossentropy")


def perceptron(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.BatchNorm1d(6), nn.Linear(6, 4)).to(dtype)


def batch(samples: int = 16) -> tuple[Tensor, Tensor]:
    x, y = labelled(samples)
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_a_step_is_autocast_with_its_loss_in_full_precision(narrow: torch.dtype) -> None:
    module, reference, (x, y) = perceptron(), perceptron(), batch()
    sums = torch.zeros(1, dtype=torch.float64)
    loss = GradientStep(module, CE, amp=narrow)(x, y, sums, scale=4.0)
    with torch.autocast("cpu", narrow):
        output = reference(x)
    assert output.dtype == narrow
    expected = nn.functional.cross_entropy(output.float(), y)
    (4 * expected).backward()
    assert torch.equal(loss, expected) and loss.dtype == torch.float32
    assert sums.item() == pytest.approx(16 * expected.item())
    for ours, theirs in zip(module.parameters(), reference.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.equal(ours.grad, theirs.grad)


class Overflowing:
    """A step that gives `loss` and a gradient of `scale` * `size`, infinite from `limit` on; at which scales."""

    def __init__(self, gradient: Tensor, size: float, limit: float, loss: float = 1.0) -> None:
        self.gradient, self.size, self.limit, self.loss, self.scales = gradient, size, limit, loss, []  # type: ignore[var-annotated]

    def __call__(self, x: Any, y: Any, sums: Tensor, scale: float) -> Tensor:
        self.scales.append(scale)
        found = scale * self.size
        self.gradient.add_(found if found < self.limit else math.inf)
        sums.add_(self.loss)
        return torch.tensor(self.loss)


def scaled(size: float, limit: float, loss: float = 1.0) -> tuple[ScaledStep, Overflowing, Tensor, Tensor]:
    gradient, sums = torch.zeros(3), torch.zeros(1, dtype=torch.float64)
    inner = Overflowing(gradient, size, limit, loss)
    return ScaledStep(inner, gradient), inner, gradient, sums  # type: ignore[arg-type]


def test_an_overflow_is_computed_again_with_half_the_scale_and_counted_once() -> None:
    step, inner, gradient, sums = scaled(size=0.5, limit=FIRST_SCALE / 8)
    step(None, None, sums)  # type: ignore[arg-type]
    assert inner.scales == [FIRST_SCALE / 2**n for n in range(4)]
    assert gradient.tolist() == [0.5] * 3 and sums.item() == 1.0
    gradient.zero_()
    step(None, None, sums)  # type: ignore[arg-type]
    assert len(inner.scales) == 5 and inner.scales[-1] == FIRST_SCALE / 8, "the scale that worked stays"


def test_the_scale_is_doubled_after_enough_good_batches() -> None:
    step, inner, gradient, sums = scaled(size=1e-6, limit=1e30)
    for _ in range(PATIENCE + 1):
        gradient.zero_()
        step(None, None, sums)  # type: ignore[arg-type]
    assert inner.scales[:-1] == [FIRST_SCALE] * PATIENCE and inner.scales[-1] == 2 * FIRST_SCALE


def test_a_loss_that_is_not_finite_is_no_matter_of_scale() -> None:
    step, inner, gradient, sums = scaled(size=math.inf, limit=1.0, loss=math.nan)
    step(None, None, sums)  # type: ignore[arg-type]
    assert len(inner.scales) == 1 and not torch.isfinite(gradient).any() and math.isnan(sums.item())


def test_an_overflow_at_every_scale_ends() -> None:
    step, inner, gradient, sums = scaled(size=1.0, limit=0.0)
    step(None, None, sums)  # type: ignore[arg-type]
    assert inner.scales[-1] == 1.0 and not torch.isfinite(gradient).any() and sums.item() == 1.0


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_training_goes_another_way_and_learns(amp: str) -> None:
    x, y = labelled(160)

    def final(amp: str | None) -> Any:
        algo = Algo("adam", lr=0.01, amp=amp, loss="sparse_categorical_crossentropy")
        return train_here(VirtualWorld(3), Rows(x, y, 16), algo, perceptron, epochs=6, val=Rows(x, y, 160))

    narrow, full = final(amp), final(None)
    assert not torch.equal(narrow.state["0.weight"], full.state["0.weight"])
    assert narrow.last["val_loss"] == pytest.approx(full.last["val_loss"], rel=0.1)
    assert narrow.last["refused"] == 0


def test_small_gradients_survive_fp16() -> None:
    """A gradient of 2^-26 is below what fp16 holds (2^-24): without scaling nothing would move."""
    x, y = np.full((8, 1), 2.0**-13, np.float32), np.full((8, 1), 2.0**-14, np.float32)

    def zero() -> nn.Module:
        linear = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(linear.weight)
        return linear

    run = train_here(VirtualWorld(2), Rows(x, y, 8), Algo("sgd", lr=1.0, loss="mse", amp="fp16"), zero)
    assert run.state["weight"].item() == 2.0**-26


def test_nan_in_the_data_still_ends_the_job() -> None:
    x, y = labelled(160)
    x[:] = np.nan
    algo = Algo("sgd", amp="fp16", loss="sparse_categorical_crossentropy")
    with pytest.raises(TrainingError, match="inf or nan"):
        train_here(VirtualWorld(2), Rows(x, y, 8), algo, perceptron, epochs=2)


def test_what_cannot_be_narrow_is_refused_before_training() -> None:
    x, y = labelled(16)
    algo = Algo("sgd", amp="bf16", loss="sparse_categorical_crossentropy")
    with pytest.raises(OptionsError, match="--amp needs a model of float32"):
        train_here(VirtualWorld(2), Rows(x, y, 8), algo, lambda: perceptron(torch.float64))
    with pytest.raises(OptionsError, match=r"unknown mixed precision \(--amp\) 'fp8'"):
        get_amp("fp8")

    class NoHalf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            if torch.is_autocast_enabled("cpu"):
                raise RuntimeError("not implemented for 'Half'")
            return self.inner(x)

    with pytest.raises(OptionsError, match=r"--amp: torch cannot compute this model so \(not implemented for 'Half'\)"):
        check_amp(GradientStep(NoHalf(), CE, amp=torch.float16), *batch())


def test_the_look_before_leaves_no_trace() -> None:
    module, (x, y) = perceptron(), batch(1)  # in training BatchNorm would refuse a single sample
    before = {name: value.clone() for name, value in module.state_dict().items()}
    check_amp(GradientStep(module, CE, amp=torch.bfloat16), x, y)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
