"""Stochastic levels: each element is rounded to one of its two neighbours so that the mean is right.

Alistarh et al. 2017 (arXiv 1610.02132), QSGD, with one norm per tensor and s levels on either side of 0:

    C(p) = ||p||_2 / s  (floor x + [u < x - floor x]),  x = s p / ||p||_2,  u uniform in [0, 1)

The mean of |C(p) - p|^2 is omega |p|^2 with omega = sum f (1 - f) / s^2, f = x - floor x, up to min(n / s^2,
sqrt(n) / s) (lemma 3.1). Where that is above 1, error feedback would make what is left grow without end: with feedback
C(p) / (1 + omega) is sent, which leaves omega / (1 + omega) |p|^2 in the mean (Beznosikov et al. 2020,
arXiv 2002.12410).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nnlo.blocks import blocks
from nnlo.compress.base import State
from nnlo.compress.norms import norm
from nnlo.compress.packing import pack
from nnlo.compress.scaled import ScaledLevels, keep
from nnlo.flat import Layout
from nnlo.options import Options, option


@dataclass(frozen=True, kw_only=True)
class QsgdOptions(Options):
    """Stochastic levels."""

    levels: int = option(127, help="levels on either side of 0", at_least=1, at_most=32767)


class Qsgd(ScaledLevels[QsgdOptions]):
    """2 s + 1 levels; unbiased, so that it needs no feedback. What is 0 stays 0.

    The random numbers of an encoding depend on the sender's seed and on how many there were before, alone.
    """

    needs_feedback = False
    Settings = QsgdOptions

    def __init__(self, settings: QsgdOptions, layout: Layout) -> None:
        super().__init__(settings, layout, (2 * settings.levels).bit_length(), half=settings.levels)

    def init(self, seed: int, feedback: bool = False) -> State:
        return {"seed": seed, "step": 0, "feedback": feedback}

    def encode(self, vector: Tensor, memory: Tensor, state: State) -> None:
        scales, packed = self.parts(memory)
        random = np.random.default_rng((state["seed"], state["step"]))
        state["step"] += 1
        for index, part in self.tensors(vector):
            scales[index] = norm(part)
            scale = scales[index].item() or 1.0
            for block, codes in self.coded(index, part):
                self.round(block, scale, codes, random)
            if state["feedback"]:
                scales[index] /= 1 + sum(self.spread(block, scale) for (block,) in blocks(part)) / self.half**2
        pack(self._codes, self.bits, packed)

    def round(self, block: Tensor, scale: float, codes: Tensor, random: np.random.Generator) -> None:
        """The codes of one block, `half` for 0; no |x| is above `half`, since no norm is below its largest element."""
        x = block.div(scale).mul_(self.half)
        whole = torch.floor(x)
        draws = torch.empty_like(x)
        random.random(dtype=draws.numpy().dtype, out=draws.numpy())
        one_more = x.sub_(whole).sub_(draws).ceil_()
        keep(whole.add_(one_more).add_(self.half), codes)

    def spread(self, block: Tensor, scale: float) -> float:
        """sum f (1 - f): the variance of what `round` adds to x."""
        fraction = block.div(scale).mul_(self.half)
        fraction.sub_(torch.floor(fraction))
        return (fraction.sum() - torch.dot(fraction, fraction)).item()
