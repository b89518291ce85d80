"""The ready-made models: their shapes, their sizes, what they refuse, and that they learn."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

from nnlo.errors import OptionsError
from nnlo.model import GradientStep, evaluate, get_loss, load_model, ready_made
from nnlo.model.metrics import get_metric

torch.set_num_threads(1)

SMALL = {"height": 16, "width": 12, "channels": 2}
SHAPES = {
    "cifar10": (32, 32, 3),
    "conv1": (28, 28, 1),
    "mlp": (28, 28, 1),
    "mnist": (28, 28, 1),
    "topclass": (150, 94, 5),
}
"""The form of a sample, for each of the ready-made models at its defaults."""


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def drawn(name: str) -> dict[str, Any]:
    return {one.name: one.rvs(random_state=1)[0] for one in load_model(name).parameter_range}


@pytest.mark.parametrize("name", ready_made())
def test_defaults_suit_the_model(name: str) -> None:
    source = load_model(name)
    loss, model = get_loss(str(source.defaults["loss"])), source.get_model(**drawn(name))
    assert loss.classifies
    x, y = torch.rand(3, *SHAPES[name]), torch.tensor([0, 1, 2])
    GradientStep(model, loss)(x, y)
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert set(evaluate(model, [(x, y)], loss, [get_metric("acc")])) == {"loss", "acc"}


@pytest.mark.parametrize("name", ready_made())
def test_ranges_name_parameters_and_every_end_builds(name: str) -> None:
    source = load_model(name)
    known = inspect.signature(source._get_model).parameters
    assert {one.name for one in source.parameter_range} <= set(known)
    x = torch.rand(1, *SHAPES[name])
    for one in source.parameter_range:
        for end in one.bounds:
            assert source.get_model(**{one.name: end}).eval()(x).shape[0] == 1


def test_conv1_has_its_layers() -> None:
    model = load_model("conv1").get_model()
    shapes = [tuple(parameter.shape) for parameter in model.parameters() if parameter.dim() > 1]
    assert shapes == [(3, 1, 5, 5), (64, 432), (10, 64)] and count(model) == 28_440


def test_cifar10_has_its_layers() -> None:
    model = load_model("cifar10").get_model()
    shapes = [tuple(parameter.shape) for parameter in model.parameters() if parameter.dim() > 1]
    assert shapes == [(48, 3, 3, 3), (96, 48, 3, 3), (192, 96, 3, 3), (512, 3072), (256, 512), (10, 256)]
    assert count(model) == 1_916_266
    assert model(torch.rand(2, 32, 32, 3)).shape == (2, 10)


def test_cifar10_computes_what_plain_torch_does() -> None:
    model = load_model("cifar10").get_model(conv1=3, conv2=4, conv3=5, kernel_size=5, dense1=6, dense2=7).eval()
    layers = [layer for layer in model.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    maps = torch.rand(2, 32, 32, 3)
    pictures = maps.clone()
    maps = torch.stack([maps[..., channel] for channel in range(3)], dim=1)
    for convolution in layers[:3]:
        maps = nn.functional.max_pool2d(
            nn.functional.conv2d(maps, convolution.weight, convolution.bias, padding=2).relu(), 2
        )
    hidden = layers[4](layers[3](maps.reshape(2, -1)).relu()).relu()
    assert torch.allclose(model(pictures), layers[5](hidden), atol=1e-6)


def test_cifar10_drops_after_both_dense_layers() -> None:
    model = load_model("cifar10").get_model(conv1=2, conv2=2, conv3=2, dense1=4, dense2=4, dropout=1.0)
    seen: list[tuple[int, ...]] = []
    model.dropout.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape)))
    output = model.train()(torch.rand(2, 32, 32, 3))
    assert torch.equal(output, model.output.bias.expand(2, 10))
    assert len(seen) == 2


@pytest.mark.parametrize("kernel_size", range(1, 9))
def test_cifar10_takes_its_kernels(kernel_size: int) -> None:
    small = {"conv1": 2, "conv2": 2, "conv3": 2, "dense1": 4, "dense2": 4}
    model = load_model("cifar10").get_model(kernel_size=kernel_size, **small)
    assert model(torch.rand(1, 32, 32, 3)).shape == (1, 10)
    assert model.dense1.in_features == 2 * 4 * 4


def test_topclass_has_its_layers() -> None:
    model = load_model("topclass").get_model()
    shapes = [tuple(parameter.shape) for parameter in model.parameters() if parameter.dim() > 1]
    assert shapes == [(8, 5, 3, 3), (16, 8, 3, 3), (128, 16 * 37 * 23), (64, 128), (3, 64)]
    assert count(model) == 1_752_963
    assert model(torch.rand(2, 150, 94, 5)).shape == (2, 3)
    bare = load_model("topclass").get_model(conv_layers=0, dense_layers=0, classes=4, **SMALL)
    assert [tuple(parameter.shape) for parameter in bare.parameters()] == [(4, 16 * 12 * 2), (4,)]


def test_topclass_drops_after_each_dense_layer() -> None:
    model = load_model("topclass").get_model(dense_layers=3, dropout=1.0, **SMALL)
    assert torch.equal(model.train()(torch.rand(2, 16, 12, 2)), model.output.bias.expand(2, 3))
    assert not torch.equal(model.eval()(torch.rand(2, 16, 12, 2)), model.output.bias.expand(2, 3))


def test_topclass_keeps_a_pixel() -> None:
    source = load_model("topclass")
    assert source.get_model(conv_layers=3, **SMALL)(torch.rand(1, 16, 12, 2)).shape == (1, 3)
    with pytest.raises(OptionsError, match=r"16x12 pictures after 4 max-pools: give conv_layers 3 or fewer"):
        source.get_model(conv_layers=4, **SMALL)


def test_topclass_names_its_datasets() -> None:
    source = load_model("topclass")
    assert (source.features, source.labels) == ("Images", "Labels")


@pytest.mark.parametrize(
    ("name", "params"),
    [
        *(("cifar10", {name: 0}) for name in ("conv1", "conv2", "conv3", "kernel_size", "dense1", "dense2")),
        ("cifar10", {"kernel_size": 9}),
        ("cifar10", {"dropout": 1.1}),
        ("cifar10", {"dropout": "much"}),
        ("cifar10", {"conv1": 2.5}),
        ("topclass", {"conv_layers": -1}),
        ("topclass", {"dense_layers": -1}),
        ("topclass", {"dropout": -0.1}),
        *(("topclass", {name: 0}) for name in ("height", "width", "channels", "classes")),
        ("mnist", {"dense": True}),
        ("mlp", {"hidden": "wide"}),
        ("mlp", {"classes": 0}),
    ],
)
def test_bad_parameters_are_one_line(name: str, params: dict[str, Any]) -> None:
    ((key, value),) = params.items()
    with pytest.raises(OptionsError) as caught:
        load_model(name).get_model(**params)
    assert str(caught.value).startswith(f"model '{name}': {key} is {value}, give ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "params", "classes"),
    [
        ("cifar10", {"conv1": 8, "conv2": 8, "conv3": 8, "dense1": 32, "dense2": 32, "dropout": 0.1}, 10),
        ("topclass", {**SMALL, "dropout": 0.1}, 3),
    ],
)
def test_a_short_training_lowers_the_loss(name: str, params: dict[str, Any], classes: int) -> None:
    torch.manual_seed(0)
    shape = (16, 12, 2) if name == "topclass" else SHAPES[name]
    y = torch.randint(classes, (24,))
    x = torch.rand(24, *shape) * (1 + y.reshape(-1, 1, 1, 1)) / classes  # the higher the class, the brighter
    model, loss = load_model(name).get_model(**params), get_loss("categorical_crossentropy")
    optimizer, step = torch.optim.Adam(model.parameters(), lr=1e-2), GradientStep(model, loss)
    before = evaluate(model, [(x, y)], loss)["loss"]
    for _ in range(40):
        optimizer.zero_grad()
        step(x, y)
        optimizer.step()
    assert evaluate(model, [(x, y)], loss)["loss"] < 0.7 * before
