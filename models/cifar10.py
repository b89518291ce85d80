"""A convolutional network for 32x32 colour pictures: 1,916,266 parameters at its defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from nnlo.models._checks import share, whole

SIDE = 32
LARGEST_KERNEL = 8  # the third convolution sees maps of 8x8


class Cifar10Net(nn.Module):
    """Pictures (N, 32, 32, 3) to logits (N, 10): three convolutions, each max-pooled, and two dense layers."""

    def __init__(self, widths: Sequence[int], kernel_size: int, dense: Sequence[int], dropout: float) -> None:
        super().__init__()
        inputs = 3, *widths[:-1]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2)
            for before, after in zip(inputs, widths, strict=True)
        )
        side = SIDE >> len(widths)
        self.dense1 = nn.Linear(widths[-1] * side * side, dense[0])
        self.dense2 = nn.Linear(dense[0], dense[1])
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dense[1], 10)

    def forward(self, pictures: Tensor) -> Tensor:
        maps = pictures.permute(0, 3, 1, 2)
        for convolution in self.convolutions:
            maps = F.max_pool2d(F.relu(convolution(maps)), 2)
        hidden = self.dropout(F.relu(self.dense1(maps.flatten(1))))
        return self.output(self.dropout(F.relu(self.dense2(hidden))))


def get_model(
    conv1: int = 48,
    conv2: int = 96,
    conv3: int = 192,
    kernel_size: int = 3,
    dense1: int = 512,
    dense2: int = 256,
    dropout: float = 0.3,
) -> nn.Module:
    """`conv1` to `conv3` maps of the convolutions, all with `kernel_size` 1 to 8, which keep the sides of a picture;
    `dense1` and `dense2` hidden units, `dropout` 0 to 1 after each of the two.
    """
    name = "cifar10"
    widths = [whole(name, f"conv{i}", width, 1) for i, width in enumerate((conv1, conv2, conv3), 1)]
    kernel = whole(name, "kernel_size", kernel_size, 1, LARGEST_KERNEL)
    dense = [whole(name, f"dense{i}", units, 1) for i, units in enumerate((dense1, dense2), 1)]
    return Cifar10Net(widths, kernel, dense, share(name, "dropout", dropout))


def _parameter_range() -> list[Any]:
    from skopt.space import Integer, Real

    return [
        Integer(16, 64, name="conv1"),
        Integer(32, 128, name="conv2"),
        Integer(64, 256, name="conv3"),
        Integer(2, 5, name="kernel_size"),
        Integer(64, 1024, name="dense1"),
        Integer(32, 512, name="dense2"),
        Real(0.0, 0.7, name="dropout"),
    ]


get_model.defaults = {
    "optimizer": "adam",
    "lr": 1e-3,
    "loss": "categorical_crossentropy",
}
get_model.parameter_range = _parameter_range
get_model.data_sets = ("cifar10",)
