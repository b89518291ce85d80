"""What holds for every codec: exact bytes, types and shapes, nothing but finite numbers, state in plain types."""

from __future__ import annotations

import math

import pytest
import torch

from nnlo.compress import CODECS, CodecSpec
from nnlo.errors import OptionsError
from tests.codecs import ALL, SHAPES, Shape, codec_of, compressor_of, layout_of, random_vector, through, through_a_file

each_codec = pytest.mark.parametrize("text", ALL)
each_type = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)

LAYOUTS: tuple[tuple[Shape, ...], ...] = (
    ((1,),), ((7,),), ((8,),), ((2, 2),), ((),), ((0,), (5,)), ((3, 3), (3,), (2, 4), (2,)),
    ((13, 17), (64,), (5, 4, 3)), SHAPES,
)  # fmt: skip


def stated_bytes(text: str, shapes: tuple[Shape, ...], size: int) -> int:
    """The bytes of each codec for floats of `size` bytes, from its definition."""
    n, count = sum(math.prod(shape) for shape in shapes), len(shapes)
    name, _, setting = text.partition(":")
    value = float(setting.partition("=")[2] or {"bins": 8, "qsgd": 127}.get(name, 0))
    if name == "powersgd":
        matrices = [(shape[0], math.prod(shape[1:])) for shape in shapes if len(shape) > 1]
        dense = sum(math.prod(shape) for shape in shapes if len(shape) < 2)
        return size * (sum(int(value) * (p + q) for p, q in matrices) + dense)
    if name == "topk":
        return max(1, round(value * n)) * (size + 4)
    if name in ("fp16", "bf16"):
        return 2 * n
    bits = {"sign": 1, "bins": int(value), "qsgd": math.ceil(math.log2(2 * value + 1))}[name]
    return size * count + math.ceil(n * bits / 8)


def test_every_codec_is_in_the_table() -> None:
    assert {text.partition(":")[0] for text in ALL} == set(CODECS)


@each_type
@each_codec
@pytest.mark.parametrize("shapes", LAYOUTS, ids=str)
def test_bytes(shapes: tuple[Shape, ...], text: str, dtype: torch.dtype) -> None:
    layout = layout_of(shapes, dtype)
    codec, vector = codec_of(text, layout), random_vector(layout)
    assert codec.nbytes == stated_bytes(text, shapes, dtype.itemsize)
    assert torch.isfinite(through(codec, vector)).all()


@pytest.mark.parametrize("n", [*range(1, 40), 1000, 1001])
@pytest.mark.parametrize("text", ["sign", "bins:bits=3", "bins:bits=11", "qsgd:levels=5", "topk:ratio=0.01"])
def test_bytes_of_many_sizes(n: int, text: str) -> None:
    assert codec_of(text, layout_of([(n,)])).nbytes == stated_bytes(text, ((n,),), 4)


@each_type
@each_codec
def test_memory_is_filled_and_nothing_else_is_touched(text: str, dtype: torch.dtype) -> None:
    layout = layout_of(dtype=dtype)
    codec, vector = codec_of(text, layout), random_vector(layout)
    before, found = vector.clone(), []
    for fill in (0x00, 0xFF):
        storage = torch.full((codec.nbytes + 128,), fill, dtype=torch.uint8)
        memory, out = storage[64 : 64 + codec.nbytes], torch.full((layout.numel + 2,), 7.0, dtype=dtype)
        codec.encode(vector, memory, codec.init(1))
        written = memory.clone()
        codec.decode(memory, out[1:-1])
        assert torch.equal(memory, written) and torch.equal(vector, before)
        assert (storage[:64] == fill).all() and (storage[64 + codec.nbytes :] == fill).all()
        assert out[0] == out[-1] == 7.0
        found.append(written)
    assert torch.equal(found[0], found[1])


@each_type
@each_codec
def test_zero_stays_zero(text: str, dtype: torch.dtype) -> None:
    layout = layout_of(dtype=dtype)
    codec = codec_of(text, layout)
    state, zeros = codec.init(1), torch.zeros(layout.numel, dtype=dtype)
    for _ in range(3):
        assert torch.equal(through(codec, zeros, state), zeros)
    assert torch.isfinite(through(codec, random_vector(layout), state)).all()


@each_type
@each_codec
@pytest.mark.parametrize("size", ["smallest", "tiny", "largest", "mixed"])
def test_extreme_values_stay_finite(size: str, text: str, dtype: torch.dtype) -> None:
    layout, info = layout_of(dtype=dtype), torch.finfo(dtype)
    most = info.max / 1e3 if text.startswith("powersgd") else info.max
    factors = {"smallest": info.smallest_normal * info.eps, "tiny": info.tiny, "largest": most}
    vector = random_vector(layout).sign()
    vector *= factors.get(size, 1.0)
    if size == "mixed":
        vector[::3], vector[1::3] = most, info.tiny
    codec = codec_of(text, layout)
    state = codec.init(1)
    for _ in range(3):
        assert torch.isfinite(through(codec, vector, state)).all()


@each_type
@pytest.mark.parametrize("exponent", [-60, 60])
@pytest.mark.parametrize("text", [text for text in ALL if text not in ("fp16", "bf16")])
def test_the_size_of_vectors_does_not_matter(text: str, exponent: int, dtype: torch.dtype) -> None:
    layout = layout_of(dtype=dtype)
    codec, vector = codec_of(text, layout), random_vector(layout)
    small, large = codec.init(1), codec.init(1)
    for _ in range(2):
        expected = through(codec, vector, small) * 2.0**exponent
        torch.testing.assert_close(through(codec, vector * 2.0**exponent, large), expected, rtol=1e-5, atol=0)


@each_type
@each_codec
@pytest.mark.parametrize("feedback", [False, True])
def test_goes_on_from_a_saved_state(feedback: bool, text: str, dtype: torch.dtype) -> None:
    layout = layout_of(dtype=dtype)
    whole, first, second = (compressor_of(text, layout, feedback) for _ in range(3))
    memory = torch.zeros(whole.codec.nbytes, dtype=torch.uint8)
    for step in range(3):
        for compressor in (whole, first):
            compressor.encode(random_vector(layout, step), memory)
    second.state = through_a_file(first.state)
    for step in range(3, 6):
        whole.encode(random_vector(layout, step), memory)
        second.encode(random_vector(layout, step), torch.zeros_like(memory))
        assert torch.equal(second.sent, whole.sent)


@each_codec
def test_needs_feedback_where_the_mean_is_not_right(text: str) -> None:
    spec = CodecSpec.of(text)
    assert spec is not None
    assert spec.needs_feedback == (spec.name not in ("fp16", "bf16", "qsgd"))
    assert spec.reduces == (spec.name == "powersgd")


@each_codec
def test_other_types_are_refused(text: str) -> None:
    with pytest.raises(OptionsError, match=r"weights of torch.bfloat16 cannot be compressed: build the model in float"):
        codec_of(text, layout_of(dtype=torch.bfloat16))
