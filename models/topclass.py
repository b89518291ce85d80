"""A classifier of particle collisions drawn as pictures with a channel for each kind of particle."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from nnlo.errors import OptionsError
from nnlo.models._checks import share, whole

FIRST_WIDTH = 8
FIRST_HIDDEN, LEAST_HIDDEN = 128, 8


class TopClassNet(nn.Module):
    """Pictures (N, height, width, channels) to logits (N, classes); 1,752,963 parameters at its defaults.

    Each convolution has twice the maps of the one before it and is max-pooled; each dense layer has half the units of
    the one before it.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int, conv_layers: int, dense_layers: int, dropout: float
    ) -> None:
        super().__init__()
        height, width, maps = shape
        self.convolutions = nn.ModuleList()
        for i in range(conv_layers):
            self.convolutions.append(nn.Conv2d(maps, FIRST_WIDTH << i, 3, padding=1))
            maps = FIRST_WIDTH << i
        units = maps * (height >> conv_layers) * (width >> conv_layers)
        self.dense = nn.ModuleList()
        for i in range(dense_layers):
            hidden = max(FIRST_HIDDEN >> i, LEAST_HIDDEN)
            self.dense.append(nn.Linear(units, hidden))
            units = hidden
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(units, classes)

    def forward(self, pictures: Tensor) -> Tensor:
        maps = pictures.permute(0, 3, 1, 2)
        for convolution in self.convolutions:
            maps = F.max_pool2d(F.relu(convolution(maps)), 2)
        hidden = maps.flatten(1)
        for dense in self.dense:
            hidden = self.dropout(F.relu(dense(hidden)))
        return self.output(hidden)


def get_model(
    conv_layers: int = 2,
    dense_layers: int = 2,
    dropout: float = 0.2,
    height: int = 150,
    width: int = 94,
    channels: int = 5,
    classes: int = 3,
) -> nn.Module:
    """`conv_layers` convolutions, `dense_layers` hidden layers, `dropout` 0 to 1 after each of these.

    Each convolution halves the sides of the `height` x `width` pictures; one pixel has to be left.
    """
    name = "topclass"
    sizes = {"height": height, "width": width, "channels": channels}
    rows, columns, planes = (whole(name, key, value, 1) for key, value in sizes.items())
    convolutions, layers = whole(name, "conv_layers", conv_layers, 0), whole(name, "dense_layers", dense_layers, 0)
    most = min(rows, columns).bit_length() - 1
    if convolutions > most:
        raise OptionsError(
            f"model '{name}': nothing is left of {rows}x{columns} pictures after {convolutions} max-pools: "
            f"give conv_layers {most} or fewer, or larger pictures"
        )
    kept = share(name, "dropout", dropout)
    return TopClassNet((rows, columns, planes), whole(name, "classes", classes, 1), convolutions, layers, kept)


def get_features() -> str:
    return "Images"


def get_labels() -> str:
    return "Labels"


def _parameter_range() -> list[Any]:
    from skopt.space import Integer, Real

    return [Integer(1, 6, name="conv_layers"), Integer(1, 6, name="dense_layers"), Real(0.0, 0.8, name="dropout")]


get_model.defaults = {
    "optimizer": "adam",
    "lr": 1e-3,
    "batch": 100,
    "epochs": 10,
    "loss": "categorical_crossentropy",
}
get_model.parameter_range = _parameter_range
get_model.data_sets = ()
