"""Packed codes: exact bytes, nothing lost, and the bits where they are said to lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nnlo.compress.packing import BLOCK, pack, packed_bytes, unpack

ALL_BITS = range(1, 18)
COUNTS = (0, 1, 2, 7, 8, 9, 63, 64, 65, 1001, BLOCK - 1, BLOCK + 13)


def codes_of(n: int, bits: int) -> Tensor:
    """Random codes, the largest and 0 among them."""
    codes = torch.from_numpy(np.random.default_rng(n + bits).integers(0, 1 << bits, n))
    codes[::5], codes[::7] = (1 << bits) - 1, 0
    return codes


def packed(codes: Tensor, bits: int) -> Tensor:
    """What `pack` writes, between two guards that it must leave alone."""
    nbytes = packed_bytes(len(codes), bits)
    memory = torch.full((nbytes + 16,), 0xA5, dtype=torch.uint8)
    pack(codes, bits, memory[8 : 8 + nbytes])
    assert (memory[:8] == 0xA5).all() and (memory[8 + nbytes :] == 0xA5).all()
    return memory[8 : 8 + nbytes]


def bit_stream(codes: Tensor, bits: int) -> list[int]:
    """The bytes of the bits of all codes in a row, lowest first: one Python int as large as it gets."""
    whole = sum(int(code) << bits * place for place, code in enumerate(codes.tolist()))
    return list(whole.to_bytes(packed_bytes(len(codes), bits), "little"))


@pytest.mark.parametrize("bits", ALL_BITS)
@pytest.mark.parametrize("n", COUNTS)
def test_what_is_packed_comes_out_again(n: int, bits: int) -> None:
    codes = codes_of(n, bits)
    out = torch.full_like(codes, -1)
    unpack(packed(codes, bits), bits, out)
    assert torch.equal(out, codes)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 65, 203])
def test_narrow_codes_are_one_stream_of_bits(n: int, bits: int) -> None:
    codes = codes_of(n, bits)
    assert packed(codes, bits).tolist() == bit_stream(codes, bits)


@pytest.mark.parametrize("bits", range(9, 18))
@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 203])
def test_wide_codes_are_planes(n: int, bits: int) -> None:
    codes, whole = codes_of(n, bits), 16 if bits >= 16 else 8
    planes = bit_stream(codes & (1 << whole) - 1, whole) + bit_stream(codes >> whole, bits - whole)
    assert packed(codes, bits).tolist() == planes


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [(torch.bool, 1), (torch.uint8, 1), (torch.uint8, 7), (torch.uint8, 8), (torch.int8, 7), (torch.int16, 15)]
    + [(dtype, bits) for dtype in (torch.int32, torch.int64) for bits in (1, 5, 8, 12, 16, 17)],
)
def test_codes_of_every_type_that_holds_them(dtype: torch.dtype, bits: int) -> None:
    codes = codes_of(77, bits)
    out = torch.zeros(77, dtype=dtype)
    unpack(packed(codes.to(dtype), bits), bits, out)
    assert torch.equal(out, codes.to(dtype))
    assert torch.equal(packed(codes.to(dtype), bits), packed(codes, bits))


@pytest.mark.parametrize("bits", [1, 3, 8, 11])
def test_codes_are_unpacked_into_floats(bits: int) -> None:
    codes = codes_of(1001, bits)
    out = torch.full((1001,), torch.nan)
    unpack(packed(codes, bits), bits, out)
    assert torch.equal(out, codes.float())


@pytest.mark.parametrize("bits", ALL_BITS)
def test_bytes(bits: int) -> None:
    assert [packed_bytes(n, bits) for n in (0, 1, 8, 1000, 1001)] == [-(-n * bits // 8) for n in (0, 1, 8, 1000, 1001)]
