"""Error feedback: what was sent and what is left add up to what there was, for every codec."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.codecs import ALL, codec_of, compressor_of, layout_of, random_vector, through

each_codec = pytest.mark.parametrize("text", ALL)
EXACT = ("fp16", "bf16", "sign", "bins:bits=1", "bins:bits=2", "topk:ratio=0.1", "topk:ratio=1")
"""Codecs that leave dyadic numbers out of dyadic ones."""

DYADIC = ((4, 4), (2, 4, 2), (8,), (), (1,))
"""Tensors whose mean is dyadic."""


def integers(numel: int, step: int) -> Tensor:
    return torch.randint(-8, 9, (numel,), generator=torch.Generator().manual_seed(step)).double()


def sgd(text: str, steps: list[Tensor], layout_shapes: tuple[tuple[int, ...], ...]) -> tuple[Tensor, Tensor]:
    """w_T and e_T of w <- w - C(v + e) from w = 0."""
    layout = layout_of(layout_shapes, torch.float64)
    compressor = compressor_of(text, layout)
    w, memory = torch.zeros(layout.numel, dtype=torch.float64), torch.zeros(compressor.codec.nbytes, dtype=torch.uint8)
    out = torch.zeros_like(w)
    for vector in steps:
        assert compressor.encode(vector.clone(), memory)
        compressor.codec.decode(memory, out)
        assert torch.equal(compressor.sent, out)
        w -= out
    return w, compressor.state["residual"]


@pytest.mark.parametrize("text", EXACT)
def test_nothing_is_lost_bit_for_bit(text: str) -> None:
    steps = [integers(42, step) for step in range(6)]
    w, residual = sgd(text, steps, DYADIC)
    assert torch.equal(w - residual, -torch.stack(steps).sum(0))


@each_codec
def test_nothing_is_lost(text: str) -> None:
    layout = layout_of(dtype=torch.float64)
    steps = [random_vector(layout, step) for step in range(20)]
    w, residual = sgd(text, steps, ((6, 5), (3, 2, 2, 2), (7,), (), (4, 9), (1,)))
    torch.testing.assert_close(w - residual, -torch.stack(steps).sum(0), rtol=0, atol=1e-11 * (1 + w.abs().max()))


@each_codec
def test_what_is_left_stays_bounded(text: str) -> None:
    layout = layout_of(dtype=torch.float64)
    compressor = compressor_of(text, layout)
    memory = torch.zeros(compressor.codec.nbytes, dtype=torch.uint8)
    left = []
    for step in range(400):
        compressor.encode(random_vector(layout, step % 7), memory)
        left.append(compressor.state["residual"].norm().item())
    assert max(left[200:]) < 1.5 * max(left[:200]) + 1e-9


def test_levels_with_feedback_are_shrunk_by_their_variance() -> None:
    """One level for (3, -4, 0): x = (0.6, -0.8, 0), its fractions are 0.6 and 0.2, and omega = 0.24 + 0.16."""
    layout, vector = layout_of([(3,)]), torch.tensor([3.0, -4.0, 0.0])
    shrunk, plain = compressor_of("qsgd:levels=1", layout), compressor_of("qsgd:levels=1", layout, feedback=False)
    for compressor in (shrunk, plain):
        compressor.encode(vector.clone(), torch.zeros(compressor.codec.nbytes, dtype=torch.uint8))
    assert plain.sent.any()
    torch.testing.assert_close(shrunk.sent, plain.sent / 1.4)


@each_codec
def test_what_adds_up_to_more_than_the_type_holds_is_dropped(text: str) -> None:
    layout = layout_of()
    compressor, new = compressor_of(text, layout), compressor_of(text, layout)
    memory, most = torch.zeros(new.codec.nbytes, dtype=torch.uint8), torch.finfo(torch.float32).max
    compressor.state["residual"].fill_(most / 2)
    assert not compressor.encode(torch.full((layout.numel,), most), memory)
    for one in (compressor, new):
        assert one.encode(random_vector(layout), memory)
    assert torch.equal(compressor.sent, new.sent)
    assert torch.equal(compressor.state["residual"], new.state["residual"])


@each_codec
def test_begins_anew(text: str) -> None:
    layout = layout_of()
    compressor, new = compressor_of(text, layout), compressor_of(text, layout)
    memory = torch.zeros(new.codec.nbytes, dtype=torch.uint8)
    compressor.encode(random_vector(layout, 1), memory)
    compressor.reset()
    for one in (compressor, new):
        one.encode(random_vector(layout, 2), memory)
    assert torch.equal(compressor.sent, new.sent)
    assert torch.equal(compressor.state["residual"], new.state["residual"])


@each_codec
def test_without_feedback_every_vector_is_encoded_by_itself(text: str) -> None:
    layout = layout_of()
    compressor, codec = compressor_of(text, layout, feedback=False), codec_of(text, layout)
    memory, state = torch.zeros(codec.nbytes, dtype=torch.uint8), codec.init(5)
    for step in range(3):
        vector = random_vector(layout, step)
        assert compressor.encode(vector.clone(), memory)
        assert torch.equal(compressor.sent, through(codec, vector, state))
    assert compressor.state["residual"] is None


def test_the_residual_is_what_was_left_out() -> None:
    compressor = compressor_of("topk:ratio=0.5", layout_of([(4,)]))
    memory = torch.zeros(compressor.codec.nbytes, dtype=torch.uint8)
    compressor.encode(torch.tensor([1.0, -4.0, 3.0, 2.0]), memory)
    assert compressor.sent.tolist() == [0, -4, 3, 0]
    compressor.encode(torch.tensor([1.0, 0.0, 0.0, 2.0]), memory)
    assert compressor.sent.tolist() == [2, 0, 0, 4]
    assert compressor.state["residual"].tolist() == [0, 0, 0, 0]


def test_what_is_left_keeps_its_worth() -> None:
    """Half of (1, -4) is sent; 1 at a rate of 1 is 4 at a quarter, which a rate of 0 does not use up."""
    compressor = compressor_of("topk:ratio=0.5", layout_of([(2,)]))
    memory = torch.zeros(compressor.codec.nbytes, dtype=torch.uint8)
    compressor.encode(torch.tensor([1.0, -4.0]), memory)
    compressor.scale(0.25)
    assert compressor.state["residual"].tolist() == [4, 0]
    compressor.scale(0.0)
    compressor.encode(torch.tensor([-1.0, 3.0]), memory)
    assert compressor.sent.tolist() == [0, 3]
    compressor.scale(0.5)
    assert compressor.state["residual"].tolist() == [2, 0]
    compressor.encode(torch.tensor([1.0, 2.0]), memory)
    assert compressor.sent.tolist() == [3, 0]
    compressor_of("fp16", layout_of(), feedback=False).scale(0.25)
