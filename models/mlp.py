"""A plain network of dense layers, for any input that can be flattened."""

from __future__ import annotations

from typing import Any

from torch import nn

from nnlo.errors import OptionsError


def get_model(hidden: int = 64, layers: int = 1, inputs: int = 784, classes: int = 10) -> nn.Module:
    """`inputs` numbers a sample, in any shape (N, ...), to logits (N, classes); `layers` hidden ones of `hidden` units.

    Without a hidden layer it is softmax regression.
    """
    sizes = {"hidden": (hidden, 1), "layers": (layers, 0), "inputs": (inputs, 1), "classes": (classes, 1)}
    for name, (value, least) in sizes.items():
        if value < least:
            raise OptionsError(f"model 'mlp': {name} is {value}, give {least} or more")
    parts: list[nn.Module] = [nn.Flatten()]
    width = int(inputs)
    for _ in range(layers):
        parts += [nn.Linear(width, int(hidden)), nn.ReLU()]
        width = int(hidden)
    return nn.Sequential(*parts, nn.Linear(width, int(classes)))


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
