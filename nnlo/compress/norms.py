"""The size of a tensor as one number, right for all that is finite: sums that overflow are taken of a scaled copy.

`part` has shape (n,); what holds inf or nan has a size that is inf or nan, and an empty one the size 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnlo.blocks import blocks


def largest(part: Tensor) -> float:
    """max |x|."""
    if len(part) == 0:
        return 0.0
    low, high = torch.aminmax(part)
    return max(-low.item(), high.item())


def mean_abs(part: Tensor) -> float:
    """sum |x| / n."""
    total = sum(block.abs().sum().item() for (block,) in blocks(part))
    if total == math.inf and (most := largest(part)) < math.inf:
        return most * mean_abs(part / most)
    return total / max(1, len(part))


def norm(part: Tensor) -> float:
    """The root of sum x^2, never below max |x|, or the largest number that the type has where that is less."""
    info, squares = torch.finfo(part.dtype), torch.dot(part, part).item()
    if info.tiny / info.eps < squares < math.inf:
        return math.sqrt(squares)
    if not 0.0 < (most := largest(part)) < math.inf:
        return most
    scaled = part / most
    return min(most * math.sqrt(torch.dot(scaled, scaled).item()), info.max)
