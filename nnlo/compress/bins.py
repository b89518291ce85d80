"""Uniform bins: each element as the nearest of evenly spaced levels between the largest magnitudes of its tensor.

With s = max |p| and K = 2^(b-1) - 1 levels on either side of 0, for b bits:

    C(p) = s / K  floor(K p / s + 1/2)

One bit has no room for 0: its two levels are -s and s with s = ||p||_1 / n, as in `sign`, since error feedback does
not converge with larger ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nnlo.compress.base import State
from nnlo.compress.norms import largest, mean_abs
from nnlo.compress.packing import pack
from nnlo.compress.scaled import ScaledLevels, keep
from nnlo.flat import Layout
from nnlo.options import Options, option


@dataclass(frozen=True, kw_only=True)
class BinsOptions(Options):
    """Uniform bins."""

    bits: int = option(8, help="bits an element", at_least=1, at_most=16)


class Bins(ScaledLevels[BinsOptions]):
    """2^b - 1 levels, 0 among them; 2 for one bit."""

    Settings = BinsOptions

    def __init__(self, settings: BinsOptions, layout: Layout) -> None:
        super().__init__(settings, layout, settings.bits, half=max(1, 2**settings.bits - 2) / 2)
        self._scale = mean_abs if settings.bits == 1 else largest

    def encode(self, vector: Tensor, memory: Tensor, state: State) -> None:
        scales, packed = self.parts(memory)
        for index, part in self.tensors(vector):
            scales[index] = scale = self._scale(part)
            for block, codes in self.coded(index, part):
                nearest = block.div(scale or 1.0).mul_(self.half).add_(self.half + 0.5)
                keep(nearest.clamp_(0, 2 * self.half), codes)
        pack(self._codes, self.bits, packed)
