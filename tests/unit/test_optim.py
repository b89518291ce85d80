"""torch's optimizers on a flat vector: names, settings, and that fused steps are the same ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nnlo.errors import OptionsError
from nnlo.flat import Layout
from nnlo.optim import OPTIMIZERS, Clip, Group, OptimizerSpec, groups_of

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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", NAMES)
def test_every_element_moves_in_every_type(name: str, dtype: torch.dtype) -> None:
    w = torch.zeros(100, dtype=dtype)
    OptimizerSpec.of(name, {"lr": 0.5}).build(w).step(w, torch.ones(100, dtype=dtype))
    assert len(w.unique()) == 1 and w[0] < 0


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sgd", {"weight_decay": 0.1}),
        ("momentum", {"dampening": 0.5}),
        ("nesterov", {"weight_decay": 0.1}),
        ("adam", {"betas": [0.8, 0.9], "eps": 1e-3, "weight_decay": 0.1}),
        ("adam", {"amsgrad": True}),
        ("adamw", {"weight_decay": 0.1}),
        ("adagrad", {}),
    ],
)
def test_steps_are_bit_for_bit_those_of_torchs_fused_class(
    name: str, settings: dict[str, Any], dtype: torch.dtype
) -> None:
    """Also for groups of a rate of their own, with the rate changed on the way."""
    spec, gradients = OptimizerSpec.of(name, {"lr": 0.5, **settings}), torch.randn(5, 100, dtype=dtype)
    w = torch.randn(100, dtype=dtype)
    one, two = nn.Parameter(w[:30].clone()), nn.Parameter(w[30:].clone())
    kind = OPTIMIZERS[spec.name]
    groups = [{"params": [one], "lr": 0.25}, {"params": [two]}]
    theirs = kind.torch_class(groups, **kind.fixed, **spec.settings, fused=True)
    ours = spec.build(w, [Group({"lr": 0.25}, ((0, 30),)), Group({}, ((30, 100),))])
    for turn, gradient in enumerate(gradients):
        if turn == 3:
            ours.scale(0.5)
            for group in theirs.param_groups:
                group["lr"] *= 0.5
        one.grad, two.grad = gradient[:30].clone(), gradient[30:].clone()
        theirs.step()
        ours.step(w, gradient)
        assert torch.equal(w, torch.cat([one, two]).detach()), turn


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
        ("adam", {"momentum": 0.9}, "optimizer 'adam' has no setting 'momentum' (--momentum): it has lr, betas, eps"),
        ("sgd", {"fused": True}, "has no setting 'fused'"),
        ("sgd", {"foreach": True}, "has no setting 'foreach'"),
        ("sgd", {"params": []}, "has no setting 'params'"),
        ("nesterov", {"nesterov": False}, "has no setting 'nesterov'"),
        ("nesterov", {"momentum": 0.0}, "optimizer 'nesterov': Nesterov momentum requires a momentum"),
        ("sgd", {"lr": -1.0}, "optimizer 'sgd': Invalid learning rate: -1.0"),
        ("sgd", {"lr": float("nan")}, "optimizer 'sgd': lr must be a finite number, not nan"),
        ("sgd", {"lr": "fast"}, "optimizer 'sgd': lr must be a number, not 'fast'"),
        ("adam", {"learning_rate": None}, "optimizer 'adam': lr must be a number, not None"),
        ("momentum", {"momentum": True}, "optimizer 'momentum': momentum must be a number, not True"),
        ("adam", {"betas": 0.9}, "optimizer 'adam': "),
        ("adam", {"lr": 0.1, "learning_rate": 0.2}, "'lr' and 'learning_rate' are the same: give one of them"),
    ],
)
def test_wrong_use_is_one_line(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError) as caught:
        OptimizerSpec.of(name, settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_clipping_by_norm_is_torchs_and_by_value_goes_first() -> None:
    gradient = torch.tensor([3.0, -4.0, 0.0])
    Clip(norm=1.0)(gradient)
    torch.testing.assert_close(gradient, torch.tensor([0.6, -0.8, 0.0]))
    Clip(norm=2.0)(gradient)
    torch.testing.assert_close(gradient, torch.tensor([0.6, -0.8, 0.0]))  # short ones stay
    gradient = torch.tensor([0.25, -8.0, 2.0])
    Clip(value=0.5)(gradient)
    assert gradient.tolist() == [0.25, -0.5, 0.5]
    gradient = torch.tensor([30.0, -40.0])
    Clip(norm=1.0, value=3.0)(gradient)
    torch.testing.assert_close(gradient, torch.tensor([0.5, -0.5]).mul(2**0.5))


def test_steps_clip_the_gradient_first() -> None:
    w = torch.zeros(2)
    OptimizerSpec.of("sgd", {"lr": 1.0}, clip=Clip(value=0.25)).build(w).step(w, torch.tensor([8.0, -0.125]))
    assert w.tolist() == [-0.25, 0.125]


@pytest.mark.parametrize("limits", [{"norm": 0}, {"value": -1.0}, {"norm": float("nan")}, {"value": "one"}])
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=f"--clip-{min(limits)} must be a finite number above 0"):
        Clip(**limits)


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def two_groups(module: nn.Module) -> list[dict[str, Any]]:
    """Biases without decay and with a rate of their own; the second layer's weight alone; the rest is in no group."""
    biases = [parameter for name, parameter in module.named_parameters() if name.endswith("bias")]
    return [{"params": biases, "weight_decay": 0.0, "lr": 0.5}, {"params": module[2].weight, "learning_rate": 0.03}]


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adamw", "rmsprop"])
def test_groups_step_as_torch_steps_them(name: str) -> None:
    """Against torch's own optimizer on the module's own parameters, bit for bit."""
    reference, flat = network(), network()
    layout = Layout.of(flat)
    vector = torch.cat([parameter.detach().flatten() for parameter in flat.parameters()])
    spec = OptimizerSpec.of(name, {"lr": 0.1, "weight_decay": 0.01}, fused=False)
    optimizer = spec.build(vector, groups_of(flat, layout, two_groups(flat)))
    plain = OPTIMIZERS[name]
    decays, scattered = two_groups(reference)
    own = [
        {"params": [reference[0].weight]},
        decays,
        {"params": scattered["params"], "lr": scattered["learning_rate"]},
    ]
    settings = {**plain.defaults, **plain.fixed, "lr": 0.1, "weight_decay": 0.01}
    torch_own = plain.torch_class(own, **settings, foreach=False)
    for step in range(4):
        optimizer.scale(0.5**step)
        for group, rate in zip(torch_own.param_groups, (0.1, 0.5, 0.03), strict=True):
            group["lr"] = rate * 0.5**step
        gradient = torch.randn(layout.numel)
        for parameter, slot in zip(reference.parameters(), layout.parameters, strict=True):
            parameter.grad = slot.view(gradient).clone()
        torch_own.step()
        optimizer.step(vector, gradient.clone())
    for parameter, slot in zip(reference.parameters(), layout.parameters, strict=True):
        assert torch.equal(slot.view(vector), parameter)


def test_groups_pass_over_frozen_parameters_and_join_neighbours() -> None:
    module = network()
    module[0].weight.requires_grad_(False)
    layout = Layout.of(module)  # 4 biases, then 8 weights and 2 biases
    (only,) = groups_of(module, layout, [{"params": module.parameters(), "lr": 1.0}])
    assert only.runs == ((0, 14),)
    rest, first = groups_of(module, layout, [{"params": module[2].weight}])
    assert rest.runs == ((0, 4), (12, 14)) and first.runs == ((4, 12),)
    assert groups_of(module, layout, None) == ()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (lambda m: {"params": m.parameters()}, "must return a list of dictionaries"),
        (lambda m: 3, "must return a list of dictionaries"),
        (lambda m: [{"lr": 1.0}], "must return a list of dictionaries"),
        (lambda m: [{"params": [nn.Parameter(torch.ones(2))]}], "no parameter of the model"),
        (lambda m: [{"params": m[0].weight}, {"params": m.parameters()}], "is in two groups"),
    ],
)
def test_groups_that_are_none(wanted: Any, said: str) -> None:
    module = network()
    with pytest.raises(OptionsError, match=said):
        groups_of(module, Layout.of(module), wanted(module))


def test_settings_of_a_group_are_the_optimizers() -> None:
    module = network()
    groups = groups_of(module, Layout.of(module), [{"params": module.parameters(), "momentum": 0.9}])
    with pytest.raises(OptionsError, match="'adam' has no setting 'momentum'"):
        OptimizerSpec.of("adam", {}).build(torch.zeros(26), groups)
