"""One convolution, one max-pool and two dense layers for 28x28 handwritten digits: 28,440 parameters at its defaults.

The network of javieryu/nn_distributed_training, which DiNNO was published with, by its parameters' names there.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from nnlo.models._checks import whole

SIDE = 28
LARGEST_KERNEL = 27  # one of 28 leaves nothing for the max-pool


class Conv1(nn.Module):
    """Images (N, 28, 28, 1) to logits (N, 10)."""

    def __init__(self, num_filters: int, kernel_size: int, linear_width: int) -> None:
        super().__init__()
        side = (SIDE - kernel_size + 1) // 2
        self.conv = nn.Conv2d(1, num_filters, kernel_size)
        self.dense = nn.Linear(num_filters * side * side, linear_width)
        self.output = nn.Linear(linear_width, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.max_pool2d(F.relu(self.conv(images.permute(0, 3, 1, 2))), 2)
        return self.output(F.relu(self.dense(maps.flatten(1))))


def get_model(num_filters: int = 3, kernel_size: int = 5, linear_width: int = 64) -> nn.Module:
    """`num_filters` of a convolution with `kernel_size` 1 to 27, `linear_width` hidden units."""
    filters = whole("conv1", "num_filters", num_filters, 1)
    kernel = whole("conv1", "kernel_size", kernel_size, 1, LARGEST_KERNEL)
    return Conv1(filters, kernel, whole("conv1", "linear_width", linear_width, 1))


def _parameter_range() -> list[Any]:
    from skopt.space import Integer

    return [
        Integer(1, 16, name="num_filters"),
        Integer(2, 9, name="kernel_size"),
        Integer(16, 256, name="linear_width"),
    ]


get_model.defaults = {"optimizer": "adam", "lr": 2e-3, "loss": "categorical_crossentropy"}
get_model.parameter_range = _parameter_range
get_model.data_sets = ("mnist", "digits")
