"""What tests of codecs share: layouts of given shapes, and one vector through a codec."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnlo.compress import Codec, CodecSpec, Compressor
from nnlo.flat import Layout

torch.set_num_threads(1)

SHAPES = ((6, 5), (3, 2, 2, 2), (7,), (), (4, 9), (1,))
"""A layout of 99 elements in 6 tensors: matrices, a kernel, a vector, a number."""

ALL = (
    "fp16", "bf16", "sign", "bins:bits=1", "bins:bits=2", "bins:bits=5", "bins", "bins:bits=11", "bins:bits=16",
    "topk:ratio=0.1", "topk:ratio=1", "qsgd:levels=1", "qsgd:levels=5", "qsgd", "qsgd:levels=32767", "powersgd:rank=2",
)  # fmt: skip

Shape = tuple[int, ...]


def layout_of(shapes: Sequence[Shape] = SHAPES, dtype: torch.dtype = torch.float32) -> Layout:
    return Layout.of(nn.ParameterList(nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes))


def codec_of(text: str, layout: Layout) -> Codec[Any]:
    spec = CodecSpec.of(text)
    assert spec is not None
    return spec.build(layout)


def compressor_of(text: str, layout: Layout, feedback: bool = True, seed: int = 5) -> Compressor:
    return Compressor(codec_of(text, layout), feedback, seed, tells=True)


def random_vector(layout: Layout, seed: int = 0) -> Tensor:
    return torch.randn(layout.numel, generator=torch.Generator().manual_seed(seed), dtype=layout.dtype)


def through(codec: Codec[Any], vector: Tensor, state: dict[str, Any] | None = None) -> Tensor:
    """The vector encoded and decoded, by a new sender unless its state is given."""
    memory, out = torch.zeros(codec.nbytes, dtype=torch.uint8), torch.full_like(vector, torch.nan)
    codec.encode(vector, memory, codec.init(5) if state is None else state)
    codec.decode(memory, out)
    return out


def tensors(layout: Layout, vector: Tensor) -> list[Tensor]:
    """The parts of a vector in their shapes."""
    return [slot.view(vector) for slot in layout.parameters]


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded
