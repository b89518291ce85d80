"""Vectors that are gone through block by block come out as if they were taken whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nnlo.algos.voting import rounded_mean
from nnlo.blocks import BLOCK, blocks
from nnlo.compress.levels import Levels, LevelSettings
from tests.codecs import ALL, codec_of, layout_of
from tests.servers import server

DYADIC = torch.arange(-20, 20, dtype=torch.float64).div(8)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Blocks of 3 elements."""
    monkeypatch.setattr("nnlo.blocks.BLOCK", 3)
    return monkeypatch


def bowl(x: Tensor) -> Tensor:
    return x.clone()


@pytest.mark.parametrize("n", [0, 1, 3, 4, 9])
def test_every_element_is_there_once_in_its_order(n: int, tiny: pytest.MonkeyPatch) -> None:
    pairs = list(blocks(torch.arange(n), torch.arange(n) * 2))
    assert torch.cat([first for first, _ in pairs]).tolist() == list(range(n))
    assert torch.cat([second for _, second in pairs]).tolist() == list(range(0, 2 * n, 2))
    assert all(len(first) <= 3 for first, _ in pairs)


def test_vectors_of_unlike_lengths_are_refused(tiny: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="shorter"):
        list(blocks(torch.arange(4), torch.arange(3)))


@pytest.mark.parametrize("text", ALL)
def test_codecs(text: str, tiny: pytest.MonkeyPatch) -> None:
    layout = layout_of([(3, 8), (16,)], torch.float64)
    found = []
    for size in (3, BLOCK):
        tiny.setattr("nnlo.blocks.BLOCK", size)
        codec, out = codec_of(text, layout), torch.zeros(layout.numel, dtype=torch.float64)
        memory = torch.zeros(codec.nbytes, dtype=torch.uint8)
        codec.encode(DYADIC, memory, codec.init(1))
        codec.decode(memory, out)
        found.append((memory, out))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@pytest.mark.parametrize("most", [1, 4, 200])
@pytest.mark.parametrize("zeros", [False, True])
def test_levels(most: int, zeros: bool, tiny: pytest.MonkeyPatch) -> None:
    levels = torch.tensor([level for level in range(-most, most + 1) if level or zeros], dtype=torch.float64)
    codec, out = Levels(LevelSettings(most=most, zeros=zeros), layout_of([levels.shape], torch.float64)), levels * 0
    memory = torch.zeros(codec.nbytes, dtype=torch.uint8)
    codec.encode(levels, memory, {})
    codec.decode(memory, out)
    assert torch.equal(out, levels)


@pytest.mark.parametrize("most", [4, 2**15])
def test_a_mean_of_votes(most: int, tiny: pytest.MonkeyPatch) -> None:
    votes = [
        torch.arange(-4, 5, dtype=torch.float16),
        torch.tensor([1.0, 0, 0, 0, -1, 0, 0, 0, 4], dtype=torch.float16),
    ]
    assert rounded_mean(votes, most, 2).tolist() == [-2, -2, -1, -1, -1, 1, 1, 2, 4]


@pytest.mark.parametrize("variant", ["paper", "code"])
def test_gradient_energy_matching(variant: str, tiny: pytest.MonkeyPatch) -> None:
    found = []
    for size in (3, BLOCK):
        tiny.setattr("nnlo.blocks.BLOCK", size)
        here = server("gem", DYADIC, 2, gem_variant=variant)
        for _ in range(3):
            here.round(bowl)
        found.append(here.w)
    assert torch.equal(*found) and not torch.equal(found[0], DYADIC)
