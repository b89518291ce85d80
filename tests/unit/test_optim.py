"""torch's optimizers on a flat vector: names, settings, and that fused steps are the same ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nnlo.errors import OptionsError
from nnlo.optim import OPTIMIZERS, OptimizerSpec

NAMES = ("adadelta", "adagrad", "adam", "adamw", "momentum", "nesterov", "rmsprop", "sgd")


def steps(spec: OptimizerSpec, count: int = 20) -> torch.Tensor:
    """The weights after some steps on 1/2 |w - target|^2 with noise."""
    torch.manual_seed(0)
    w = torch.randn(1000)
    optimizer = spec.build(w)
    for _ in range(count):
        optimizer.step(w, w - 1.0 + 0.1 * torch.randn(1000))
    return w


def test_names() -> None:
    assert tuple(OPTIMIZERS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_works_in_place_and_keeps_no_weights(name: str) -> None:
    spec = OptimizerSpec.of(name, {})
    w, other = torch.ones(5), torch.ones(5)
    optimizer = spec.build(w)
    optimizer.step(w, torch.full((5,), 0.5))
    assert (w < 1.0).all()
    before, place = w.clone(), other.data_ptr()
    optimizer.step(other, torch.full((5,), 0.5))
    assert torch.equal(w, before), "it steps the vector that it is given, not the one that it was built with"
    assert (other < 1.0).all() and other.data_ptr() == place


@pytest.mark.parametrize("name", NAMES)
def test_fused_steps_are_close_to_plain_ones(name: str) -> None:
    fused, plain = (steps(OptimizerSpec.of(name, {}, fused=fused)) for fused in (True, False))
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam", "adamw", "adagrad"])
def test_fused_where_torch_has_it(name: str) -> None:
    def group(fused: bool) -> dict[str, Any]:
        return OptimizerSpec.of(name, {}, fused=fused).build(torch.zeros(1)).optimizer.param_groups[0]

    assert group(True)["fused"] is True
    assert not group(False)["fused"] and group(False)["foreach"] is False


@pytest.mark.parametrize("name", NAMES)
def test_steps_go_on_from_a_state_dict(name: str) -> None:
    spec = OptimizerSpec.of(name, {})
    w, copied = torch.ones(7), torch.ones(7)
    whole, first, second = spec.build(w), spec.build(copied), spec.build(torch.zeros(7))
    gradients = [torch.randn(7) for _ in range(6)]
    for gradient in gradients:
        whole.step(w, gradient.clone())
    for gradient in gradients[:3]:
        first.step(copied, gradient.clone())
    second.load_state_dict(first.state_dict())
    for gradient in gradients[3:]:
        second.step(copied, gradient.clone())
    assert torch.equal(w, copied)


@pytest.mark.parametrize(("name", "lr"), [("sgd", 0.01), ("momentum", 0.01), ("nesterov", 0.01), ("adam", 1e-3)])
def test_default_rates(name: str, lr: float) -> None:
    assert OptimizerSpec.of(name, {}).build(torch.zeros(1)).lr == lr


def test_momentum_is_09_unless_given() -> None:
    for name in ("momentum", "nesterov"):
        assert OptimizerSpec.of(name, {}).settings["momentum"] == 0.9
        assert OptimizerSpec.of(name, {"momentum": 0.5}).settings["momentum"] == 0.5
    assert OptimizerSpec.of("nesterov", {}).build(torch.zeros(1)).optimizer.param_groups[0]["nesterov"] is True


def test_names_in_any_case_and_settings_by_their_other_names() -> None:
    spec = OptimizerSpec.of("Adam", {"learning_rate": 0.5, "epsilon": 1e-3, "betas": [0.8, 0.9]})
    assert spec.name == "adam"
    group = spec.build(torch.zeros(1)).optimizer.param_groups[0]
    assert (group["lr"], group["eps"], list(group["betas"])) == (0.5, 1e-3, [0.8, 0.9])


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("sdg", {}, "unknown optimizer 'sdg': choose one of adadelta, adagrad, adam"),
        ("adam", {"momentum": 0.9}, "optimizer 'adam' has no setting 'momentum': it has lr, betas, eps"),
        ("sgd", {"fused": True}, "has no setting 'fused'"),
        ("sgd", {"foreach": True}, "has no setting 'foreach'"),
        ("sgd", {"params": []}, "has no setting 'params'"),
        ("nesterov", {"nesterov": False}, "has no setting 'nesterov'"),
        ("nesterov", {"momentum": 0.0}, "optimizer 'nesterov': Nesterov momentum requires a momentum"),
        ("sgd", {"lr": -1.0}, "optimizer 'sgd': Invalid learning rate: -1.0"),
        ("sgd", {"lr": float("nan")}, "optimizer 'sgd': lr must be a finite number, not nan"),
        ("sgd", {"lr": "fast"}, "optimizer 'sgd': "),
        ("adam", {"betas": 0.9}, "optimizer 'adam': "),
        ("adam", {"lr": 0.1, "learning_rate": 0.2}, "'lr' and 'learning_rate' are the same: give one of them"),
    ],
)
def test_wrong_use_is_one_line(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError) as caught:
        OptimizerSpec.of(name, settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
