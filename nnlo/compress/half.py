"""Half precision: two bytes an element, rounded to nearest even."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from nnlo.blocks import blocks
from nnlo.compress.base import Codec, State
from nnlo.flat import Layout
from nnlo.options import Options


class Half(Codec[Options]):
    """The vector in a narrow type; what is too large for it becomes the largest that it has."""

    needs_feedback = False
    narrow: ClassVar[torch.dtype]

    def __init__(self, settings: Options, layout: Layout) -> None:
        super().__init__(settings, layout)
        self.nbytes = 2 * layout.numel

    def encode(self, vector: Tensor, memory: Tensor, state: State) -> None:
        most = torch.finfo(self.narrow).max
        for part, place in blocks(vector, memory.view(self.narrow)):
            place.copy_(part.clamp(-most, most))

    def decode(self, memory: Tensor, out: Tensor) -> None:
        out.copy_(memory.view(self.narrow))


class Fp16(Half):
    """IEEE half precision: 11 bits of mantissa, up to 65504."""

    narrow = torch.float16


class Bf16(Half):
    """bfloat16: 8 bits of mantissa, the range of float32."""

    narrow = torch.bfloat16
