"""Levels on the wire: every one of them comes back, in exactly the bytes that they take."""

from __future__ import annotations

import pytest
import torch

from nnlo.compress.levels import Levels, LevelSettings
from tests.voting import layout, through


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("bits", range(1, 17))
def test_all_levels_come_back(bits: int, zeros: bool) -> None:
    most = 2 ** (bits - 1)
    held = [level for level in range(-most, most + 1) if level or zeros]
    vector = torch.tensor([*held, *held[:3]], dtype=torch.float32)
    codec = Levels(LevelSettings(most=most, zeros=zeros), layout(len(vector)))
    before = vector.clone()
    assert torch.equal(through(codec, vector), vector) and torch.equal(vector, before)
    assert codec.nbytes == -(-len(vector) * (bits + zeros) // 8)


def test_levels_of_float64() -> None:
    vector = torch.tensor([-4, -1, 0, 3, 4], dtype=torch.float64)
    assert torch.equal(through(Levels(LevelSettings(most=4), layout(5, torch.float64)), vector), vector)
