"""The largest elements against a plain sort."""

from __future__ import annotations

import pytest
import torch

from nnlo.compress.topk import Topk, TopkOptions
from nnlo.errors import OptionsError
from nnlo.flat import Layout, Slot
from tests.codecs import codec_of, layout_of, random_vector, through


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("ratio", [1e-9, 0.001, 0.01, 0.3, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("n", [1, 2, 99, 5000])
def test_the_largest_are_kept_and_the_others_are_0(n: int, ratio: float, dtype: torch.dtype) -> None:
    vector = random_vector(layout_of([(n,)], dtype))
    kept = sorted(range(n), key=lambda index: -abs(vector[index].item()))[: max(1, round(ratio * n))]
    expected = torch.zeros_like(vector)
    expected[kept] = vector[kept]
    assert torch.equal(through(codec_of(f"topk:ratio={ratio}", layout_of([(n,)], dtype)), vector), expected)


@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 6, 7, 8])
def test_of_equal_magnitudes_those_that_come_first(k: int) -> None:
    vector = torch.tensor([1.0, -2.0, 2.0, 3.0, -2.0, 2.0, 0.0, 0.0])
    kept = sorted(range(8), key=lambda index: -abs(vector[index].item()))[:k]
    expected = torch.zeros(8)
    expected[kept] = vector[kept]
    found = through(codec_of(f"topk:ratio={k / 8}", layout_of([(8,)])), vector)
    assert torch.equal(found, expected)


def test_over_all_tensors_together() -> None:
    vector = torch.tensor([1.0, 2.0, 3.0, 4.0, 50.0, 60.0, 70.0, 80.0])
    found = through(codec_of("topk:ratio=0.5", layout_of([(2, 2), (4,)])), vector)
    assert torch.equal(found, torch.tensor([0.0, 0, 0, 0, 50, 60, 70, 80]))


def test_the_whole_vector_is_itself() -> None:
    layout = layout_of()
    vector = random_vector(layout)
    assert torch.equal(through(codec_of("topk:ratio=1", layout), vector), vector)


def test_values_come_before_indices_which_rise() -> None:
    codec = codec_of("topk:ratio=0.4", layout_of([(5,)]))
    memory = torch.zeros(codec.nbytes, dtype=torch.uint8)
    codec.encode(torch.tensor([0.0, -9.0, 1.0, 2.0, 10.0]), memory, {})
    assert memory[:8].view(torch.float32).tolist() == [-9.0, 10.0]
    assert memory[8:].view(torch.int32).tolist() == [1, 4]


def test_more_elements_than_an_index_tells_are_refused() -> None:
    layout = Layout(torch.float32, (Slot("w", (2**31,), 0),), (), (), "")
    with pytest.raises(OptionsError, match="2147483648 parameters are more than its indices of 32 bits can tell"):
        Topk(TopkOptions(), layout)
