"""Gradient clipping, on a flat vector."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nnlo.errors import OptionsError


@dataclass(frozen=True)
class Clip:
    """Limits of a gradient: of each element's size, and then of its norm; None for none.

    The norm is that of the whole gradient, as in Pascanu et al. 2013, arXiv 1211.5063, algorithm 1.
    """

    norm: float | None = None
    value: float | None = None

    def __post_init__(self) -> None:
        for name, limit in (("norm", self.norm), ("value", self.value)):
            if limit is not None and not (isinstance(limit, (int, float)) and 0 < limit < math.inf):
                raise OptionsError(f"--clip-{name} must be a finite number above 0, not {limit!r}")

    def __call__(self, gradient: Tensor) -> None:
        """In place."""
        if self.value is not None:
            gradient.clamp_(-self.value, self.value)
        if self.norm is not None:
            gradient.mul_((self.norm / (torch.linalg.vector_norm(gradient) + 1e-6)).clamp_(max=1.0))


NO_CLIP = Clip()
