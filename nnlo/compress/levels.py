"""Whole numbers from -K to K, packed in as few bits as they take; nothing is lost.

Without zero there are 2 K of them, otherwise 2 K + 1: with K = 2**(b - 1) that is b bits each, or b + 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nnlo.blocks import blocks
from nnlo.compress.base import Codec, State
from nnlo.compress.packing import pack, packed_bytes, unpack
from nnlo.errors import OptionsError
from nnlo.flat import Layout
from nnlo.options import Options, option


@dataclass(frozen=True, kw_only=True)
class LevelSettings(Options):
    """K is `most`; `zeros`: whether zero is one of the levels."""

    most: int = option(1, help="the largest level", at_least=1)
    zeros: bool = option(True, help="whether zero is a level")

    @property
    def bits(self) -> int:
        """What one level takes."""
        return (2 * self.most + self.zeros - 1).bit_length()


class Levels(Codec[LevelSettings]):
    """For vectors that hold levels and nothing else; half types hold 1, 0 and -1, whose sums they count."""

    Settings = LevelSettings
    needs_feedback = False
    types = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

    def __init__(self, settings: LevelSettings, layout: Layout) -> None:
        super().__init__(settings, layout)
        if settings.most > 1 and layout.dtype.itemsize < 4:
            raise OptionsError(f"{layout.dtype} cannot count levels beyond 1: build the model in float32 or float64")
        self.nbytes = packed_bytes(layout.numel, settings.bits)
        self._codes = torch.empty(layout.numel, dtype=torch.uint8 if settings.bits <= 8 else torch.int32)

    def encode(self, vector: Tensor, memory: Tensor, state: State) -> None:
        """Level l is code l + K; without zero those above it move down by one."""
        codes, most = self._codes, self.settings.most
        if self.settings.bits == 1:
            torch.gt(vector, 0, out=codes)
        else:
            for part, place in blocks(vector, codes):
                level = part + most
                place.copy_(level if self.settings.zeros else level.sub_((part > 0).to(part.dtype)))
        pack(codes, self.settings.bits, memory)

    def decode(self, memory: Tensor, out: Tensor) -> None:
        unpack(memory, self.settings.bits, self._codes)
        for codes, place in blocks(self._codes, out):
            if self.settings.bits == 1:
                place.copy_(codes).mul_(2).sub_(1)
            else:
                place.copy_(codes).sub_(self.settings.most)
                if not self.settings.zeros:
                    place.add_(place >= 0)
