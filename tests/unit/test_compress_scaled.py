"""Codecs of levels against their equations: scaled signs, bins, stochastic levels."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from nnlo.compress.norms import norm
from tests.codecs import codec_of, layout_of, random_vector, tensors, through

each_type = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
LARGE = ((300, 257), (11,), (70_001,))
"""Tensors of more than one block, and of odd sizes."""


@each_type
@pytest.mark.parametrize("text", ["sign", "bins:bits=1"])
def test_signs_times_the_mean_magnitude_of_each_tensor(text: str, dtype: torch.dtype) -> None:
    layout = layout_of(LARGE, dtype)
    vector = random_vector(layout)
    found = through(codec_of(text, layout), vector)
    for p, c in zip(tensors(layout, vector), tensors(layout, found), strict=True):
        scale = p.double().abs().mean()
        torch.testing.assert_close(c, (scale * torch.where(p >= 0, 1.0, -1.0)).to(dtype), rtol=1e-6, atol=0)


@each_type
@pytest.mark.parametrize("text", ["sign", "bins:bits=1", "bins:bits=2"])
def test_vectors_of_one_magnitude_are_exact(text: str, dtype: torch.dtype) -> None:
    layout = layout_of(dtype=dtype)
    vector = torch.zeros(layout.numel, dtype=dtype)
    for number, part in enumerate(tensors(layout, vector)):
        part.copy_(0.375 * 2.0**number * (1 - 2 * (torch.arange(part.numel()) % 3 == 1).to(dtype)).view(part.shape))
    assert torch.equal(through(codec_of(text, layout), vector), vector)


@pytest.mark.parametrize("text", ["sign", "bins:bits=1"])
def test_zero_counts_as_positive(text: str) -> None:
    found = through(codec_of(text, layout_of([(4,)])), torch.tensor([0.0, -0.0, 3.0, -5.0]))
    assert torch.equal(found, torch.tensor([2.0, 2.0, 2.0, -2.0]))


def test_signs_lie_behind_the_scales_one_bit_each() -> None:
    codec = codec_of("sign", layout_of([(2, 2), (5,)]))
    memory = torch.zeros(codec.nbytes, dtype=torch.uint8)
    codec.encode(torch.tensor([1.0, -3.0, 0.0, 4.0, -8.0, 8.0, 8.0, -8.0, 8.0]), memory, {})
    assert memory[:8].view(torch.float32).tolist() == [2.0, 8.0]
    assert memory[8:].tolist() == [0b01101101, 0b1]


@each_type
@pytest.mark.parametrize("bits", [2, 3, 5, 8, 9, 12, 16])
def test_bins_are_the_nearest_level(bits: int, dtype: torch.dtype) -> None:
    layout = layout_of(LARGE, dtype)
    vector = random_vector(layout)
    found = through(codec_of(f"bins:bits={bits}", layout), vector)
    for p, c in zip(tensors(layout, vector), tensors(layout, found), strict=True):
        step = p.abs().max().double() / (2 ** (bits - 1) - 1)
        levels = c.double() / step
        torch.testing.assert_close(levels, levels.round(), rtol=1e-6, atol=0)
        assert (p - c).abs().max() <= step / 2 * (1 + 2.0 ** (bits - 23))
        assert c.unique().numel() <= 2**bits - 1


@each_type
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_what_lies_on_a_level_is_exact(bits: int, dtype: torch.dtype) -> None:
    most = 2 ** (bits - 1) - 1
    vector = torch.tensor([-most, 0, 1, -1, most // 2, most], dtype=dtype)
    assert torch.equal(through(codec_of(f"bins:bits={bits}", layout_of([(6,)], dtype)), vector), vector)


def in_levels(p: Tensor, c: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """The original and what became of it, in steps between two levels."""
    step = torch.linalg.vector_norm(p.double()) / levels
    return p.double() / step, c.double() / step


@each_type
@pytest.mark.parametrize("levels", [1, 2, 7, 127, 1000, 32767])
def test_stochastic_levels_are_the_neighbours(levels: int, dtype: torch.dtype) -> None:
    layout = layout_of(LARGE, dtype)
    vector = random_vector(layout)
    vector[::4] = 0
    found = through(codec_of(f"qsgd:levels={levels}", layout), vector)
    for p, c in zip(tensors(layout, vector), tensors(layout, found), strict=True):
        x, chosen = in_levels(p, c, levels)
        torch.testing.assert_close(chosen, chosen.round(), rtol=1e-6, atol=0)
        assert (chosen.round() - x).abs().max() < 1 + 1e-5 * levels
        assert (c[p == 0] == 0).all()


@each_type
@pytest.mark.parametrize("levels", [1, 5, 127])
def test_the_mean_over_seeds_is_the_vector(levels: int, dtype: torch.dtype) -> None:
    layout, seeds = layout_of(dtype=dtype), 400
    codec, vector = codec_of(f"qsgd:levels={levels}", layout), random_vector(layout)
    mean = sum(through(codec, vector, codec.init(seed)).double() for seed in range(seeds)) / seeds
    # Hoeffding: each of n means of N values within a step is off by t steps with probability 2 exp(-2 N t^2).
    bound = math.sqrt(math.log(2 * layout.numel / 1e-9) / (2 * seeds))
    for p, c in zip(tensors(layout, vector), tensors(layout, mean), strict=True):
        x, found = in_levels(p, c, levels)
        assert (found - x).abs().max() < bound


@each_type
@pytest.mark.parametrize("size", [1e-40, 1e-20, 1.0, 1e20, 1e38])
def test_no_norm_is_below_the_largest_element(size: float, dtype: torch.dtype) -> None:
    vectors = random_vector(layout_of([(500, 3)], dtype)).view(500, 3).mul_(size)
    vectors[:, 1:] *= torch.logspace(0, -9, 500, dtype=dtype)[:, None]
    found = torch.tensor([norm(vector) for vector in vectors], dtype=torch.float64).to(dtype)
    assert (found >= vectors.abs().amax(1)).all()
    torch.testing.assert_close(found.double(), vectors.double().norm(dim=1), rtol=1e-5, atol=1e-45)


def test_the_mean_over_many_elements_is_closer() -> None:
    n, levels = 250_000, 3
    layout = layout_of([(n,)])
    vector = random_vector(layout).abs()
    x, found = in_levels(vector, through(codec_of(f"qsgd:levels={levels}", layout), vector), levels)
    assert (found - x).sum().abs() < math.sqrt(n * math.log(2 / 1e-9) / 2)


def test_draws_follow_from_seed_and_step_alone() -> None:
    layout = layout_of(LARGE)
    codec, vector = codec_of("qsgd:levels=3", layout), random_vector(layout)
    state = codec.init(11)
    first, second = through(codec, vector, state), through(codec, vector, state)
    assert state == {"seed": 11, "step": 2, "feedback": False}
    assert not torch.equal(first, second)
    assert torch.equal(through(codec, vector, codec.init(11)), first)
    assert torch.equal(through(codec, vector, codec.init(11) | {"step": 1}), second)
    assert not torch.equal(through(codec, vector, codec.init(12)), first)


def test_tensors_and_blocks_have_draws_of_their_own() -> None:
    layout = layout_of([(200_000,), (200_000,)])
    found = through(codec_of("qsgd:levels=1", layout), torch.full((400_000,), 0.5))
    parts = [part.bool() for part in found.split(50_000)]
    shared = [(one & other).sum() / one.sum() for one in parts for other in parts if one is not other]
    assert max(shared) < 0.5


@each_type
def test_a_single_element_is_exact(dtype: torch.dtype) -> None:
    vector = torch.tensor([0.0, 0.0, -3.0, 0.0], dtype=dtype)
    assert torch.equal(through(codec_of("qsgd:levels=127", layout_of([(4,)], dtype)), vector), vector)
