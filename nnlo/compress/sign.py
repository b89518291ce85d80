"""The sign of each element, scaled: one bit an element.

Karimireddy et al. 2019 (arXiv 1901.09847), EF-signSGD, tensor by tensor:

    C(p) = ||p||_1 / n  sgn p,  with sgn 0 = 1
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnlo.compress.base import State
from nnlo.compress.norms import mean_abs
from nnlo.compress.packing import pack
from nnlo.compress.scaled import ScaledLevels
from nnlo.flat import Layout
from nnlo.options import Options


class Sign(ScaledLevels[Options]):
    """The two levels -scale and scale."""

    def __init__(self, settings: Options, layout: Layout) -> None:
        super().__init__(settings, layout, bits=1, half=0.5)

    def encode(self, vector: Tensor, memory: Tensor, state: State) -> None:
        scales, packed = self.parts(memory)
        for index, part in self.tensors(vector):
            scales[index] = mean_abs(part)
        pack(torch.from_numpy(np.greater_equal(vector.numpy(), 0)), self.bits, packed)
