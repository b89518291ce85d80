"""A plain network of dense layers, for any input that can be flattened."""

from __future__ import annotations

from typing import Any

from torch import nn

from nnlo.models._checks import whole


def get_model(hidden: int = 64, layers: int = 1, inputs: int = 784, classes: int = 10) -> nn.Module:
    """`inputs` numbers a sample, in any shape (N, ...), to logits (N, classes); `layers` hidden ones of `hidden` units.

    Without a hidden layer it is softmax regression.
    """
    units, width = whole("mlp", "hidden", hidden, 1), whole("mlp", "inputs", inputs, 1)
    parts: list[nn.Module] = [nn.Flatten()]
    for _ in range(whole("mlp", "layers", layers, 0)):
        parts += [nn.Linear(width, units), nn.ReLU()]
        width = units
    return nn.Sequential(*parts, nn.Linear(width, whole("mlp", "classes", classes, 1)))


def _parameter_range() -> list[Any]:
    from skopt.space import Integer

    return [Integer(8, 512, name="hidden"), Integer(0, 4, name="layers")]


get_model.defaults = {
    "optimizer": "adam",
    "lr": 1e-3,
    "batch": 100,
    "epochs": 3,
    "loss": "categorical_crossentropy",
}
get_model.parameter_range = _parameter_range
get_model.data_sets = ("mnist", "digits")
