"""The k elements of largest magnitude, as values and indices; the others are 0.

Aji and Heafield 2017 (arXiv 1704.05021); Lin et al. 2018 (arXiv 1712.01887), without their momentum correction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nnlo.compress.base import Codec, State
from nnlo.errors import OptionsError
from nnlo.flat import Layout
from nnlo.options import Options, option

INDEX = torch.int32


@dataclass(frozen=True, kw_only=True)
class TopkOptions(Options):
    """Largest elements."""

    ratio: float = option(0.01, help="the part of all elements that is sent", above=0.0, at_most=1.0)


class Topk(Codec[TopkOptions]):
    """k = max(1, round(ratio n)) of the whole vector; of equal magnitudes those that come first."""

    Settings = TopkOptions

    def __init__(self, settings: TopkOptions, layout: Layout) -> None:
        super().__init__(settings, layout)
        if layout.numel > torch.iinfo(INDEX).max:
            raise OptionsError(f"{layout.numel} parameters are more than its indices of 32 bits can tell")
        self.k = max(1, round(settings.ratio * layout.numel))
        self._order = torch.zeros(layout.numel, dtype=layout.dtype)
        self.nbytes = self.k * (layout.dtype.itemsize + INDEX.itemsize)

    def parts(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Values and indices, shape (k,) each, by rising index."""
        end = self.k * self.layout.dtype.itemsize
        return memory[:end].view(self.layout.dtype), memory[end:].view(INDEX)

    def encode(self, vector: Tensor, memory: Tensor, state: State) -> None:
        values, indices = self.parts(memory)
        chosen = self.chosen(vector)
        indices.copy_(chosen)
        torch.index_select(vector, 0, chosen, out=values)

    def chosen(self, vector: Tensor) -> Tensor:
        """The indices to send, int64 of shape (k,)."""
        values, order = vector.numpy(), self._order.numpy()
        np.abs(values, out=order)
        order.partition(-self.k)
        least = order[-self.k]
        found = np.flatnonzero(~((values < least) & (values > -least)))  # nan too
        if len(found) > self.k:
            above = np.abs(values[found]) > least
            above[np.flatnonzero(~above)[: self.k - np.count_nonzero(above)]] = True
            found = found[above]
        return torch.from_numpy(found)

    def decode(self, memory: Tensor, out: Tensor) -> None:
        values, indices = self.parts(memory)
        out.zero_().index_copy_(0, indices.long(), values)
