"""Levels on the wire: every one of them comes back, in exactly the bytes that they take."""

from __future__ import annotations

import pytest
import torch

from nnlo.compress.levels import Levels, LevelSettings, largest_whole
from nnlo.errors import OptionsError
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_every_type_of_weights(dtype: torch.dtype) -> None:
    vector = torch.tensor([-4, -1, 0, 3, 4], dtype=dtype)
    assert torch.equal(through(Levels(LevelSettings(most=4), layout(5, dtype)), vector), vector)


def test_a_type_that_does_not_hold_the_levels_is_refused() -> None:
    Levels(LevelSettings(most=256), layout(2, torch.bfloat16))
    with pytest.raises(OptionsError, match=r"^levels up to 512 are no whole numbers in torch.bfloat16"):
        Levels(LevelSettings(most=512), layout(2, torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_largest_whole_number_is_the_last_before_a_gap(dtype: torch.dtype) -> None:
    last = largest_whole(dtype)
    assert torch.tensor(last - 1, dtype=dtype).item() == last - 1
    assert torch.tensor(last + 1, dtype=dtype).item() != last + 1
