"""Codecs with one scale per tensor and, for each element, one of the evenly spaced levels from -scale to scale."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from nnlo.blocks import blocks
from nnlo.compress.base import Codec, S
from nnlo.compress.packing import packed_bytes, unpack
from nnlo.flat import Layout


class ScaledLevels(Codec[S]):
    """Code c of an element stands for (c - half) / half times the scale of its tensor.

    T tensors of n elements in all take T scales of the layout's type and ceil(n bits / 8) bytes.
    """

    def __init__(self, settings: S, layout: Layout, bits: int, half: float) -> None:
        super().__init__(settings, layout)
        self.bits, self.half = bits, half
        self._scale_bytes = len(layout.parameters) * layout.dtype.itemsize
        self._codes = torch.zeros(layout.numel, dtype=torch.uint8 if bits <= 8 else torch.int32)
        self.nbytes = self._scale_bytes + packed_bytes(layout.numel, bits)

    def parts(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The scales, shape (T,), and the packed codes."""
        return memory[: self._scale_bytes].view(self.layout.dtype), memory[self._scale_bytes :]

    def tensors(self, vector: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Each tensor's number and its elements."""
        for index, slot in enumerate(self.layout.parameters):
            yield index, vector[slot.offset : slot.offset + slot.size]

    def coded(self, index: int, part: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The elements of a tensor and the place of their codes, as many at a time as the cache holds."""
        start = self.layout.parameters[index].offset
        return blocks(part, self._codes[start : start + len(part)])

    def decode(self, memory: Tensor, out: Tensor) -> None:
        scales, packed = self.parts(memory)
        unpack(packed, self.bits, out)
        for index, part in self.tensors(out):
            for (block,) in blocks(part):
                block.sub_(self.half).div_(self.half).mul_(scales[index])


def keep(values: Tensor, codes: Tensor) -> None:
    """The whole part of non-negative floats as codes: numpy is three times as fast as torch at it."""
    np.copyto(codes.numpy(), values.numpy(), casting="unsafe")
