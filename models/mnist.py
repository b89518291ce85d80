"""The small convolutional network for 28x28 handwritten digits: 21,840 parameters at its defaults."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from nnlo.models._checks import share, whole

SIDE = 28
LARGEST_KERNEL = 9  # a kernel of 10 leaves nothing after the second max-pool


class MnistNet(nn.Module):
    """Images (N, 28, 28, 1) to logits (N, 10)."""

    def __init__(self, kernel_size: int, dropout: float, dense: int) -> None:
        super().__init__()
        side = SIDE
        for _ in range(2):
            side = (side - kernel_size + 1) // 2
        self.conv1 = nn.Conv2d(1, 10, kernel_size)
        self.conv2 = nn.Conv2d(10, 20, kernel_size)
        self.dense = nn.Linear(20 * side * side, dense)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(dense, 10)

    def forward(self, images: Tensor) -> Tensor:
        # A permuted view, not a copy: torch then takes its channels-last path, a third faster on CPUs.
        maps = F.relu(F.max_pool2d(self.conv1(images.permute(0, 3, 1, 2)), 2))
        maps = F.relu(F.max_pool2d(self.conv2(maps), 2))
        hidden = F.relu(self.dense(maps.flatten(1)))
        return self.output(self.dropout(hidden))


def get_model(kernel_size: int = 5, dropout: float = 0.5, dense: int = 50) -> nn.Module:
    """`kernel_size` 1 to 9 of both convolutions, `dropout` 0 to 1 before the output layer, `dense` hidden units."""
    kernel = whole("mnist", "kernel_size", kernel_size, 1, LARGEST_KERNEL)
    return MnistNet(kernel, share("mnist", "dropout", dropout), whole("mnist", "dense", dense, 1))


def _parameter_range() -> list[Any]:
    from skopt.space import Integer, Real

    return [Integer(2, 7, name="kernel_size"), Real(0.0, 0.8, name="dropout"), Integer(10, 200, name="dense")]


get_model.defaults = {
    "optimizer": "adam",
    "lr": 2e-3,
    "loss": "categorical_crossentropy",
}
get_model.parameter_range = _parameter_range
get_model.data_sets = ("mnist", "digits")
