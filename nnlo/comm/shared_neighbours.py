"""Exchanges with neighbours through the memory of one host."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nnlo.comm.base import Exchange, Neighbourhood
from nnlo.comm.shared_group import SharedGroup


class SharedNeighbourhood(Neighbourhood):
    """All ranks of the group lay out what they have; each reads what those have whom it hears."""

    def __init__(self, group: SharedGroup, heard: Sequence[int]) -> None:
        self._group, self._heard = group, heard

    def exchange(self, mine: Tensor) -> Exchange:
        return self._group.neighbours(mine, self._heard)
