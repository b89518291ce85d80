"""The header that opens every message."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlo.comm.messages import MAGIC, Flag, Header, Kind
from nnlo.errors import ProtocolError
from nnlo.flat import HEADER_BYTES

NUMBER = st.integers(-(1 << 63), (1 << 63) - 1)
FLAGS = st.integers(0, Flag.ALL)
HEADERS = st.builds(Header, st.sampled_from(Kind), FLAGS, *[NUMBER] * 7)


@given(HEADERS)
def test_header_goes_through_64_bytes(header: Header) -> None:
    memory = bytearray(b"\xff" * (HEADER_BYTES + 8))
    header.write(memoryview(memory))
    assert Header.read(memoryview(memory)) == header
    assert memory[HEADER_BYTES:] == b"\xff" * 8
    assert HEADER_BYTES == 64


@given(HEADERS)
def test_fields_lie_where_other_programs_may_look(header: Header) -> None:
    """Little-endian: magic and kind of 2 bytes, flags of 4, then seven numbers of 8."""
    memory = bytearray(HEADER_BYTES)
    header.write(memoryview(memory))
    assert struct.unpack("<HHI7q", memory) == (
        MAGIC, header.kind, header.flags, header.version, header.samples, header.nbytes,
        header.epoch, header.first, header.count, header.busy_us,
    )  # fmt: skip


def test_a_header_alone_is_64_bytes_long() -> None:
    assert Header(Kind.STOP).nbytes == HEADER_BYTES


@pytest.mark.parametrize("magic", [0, 0x4E02, 0x014E])
def test_wrong_magic_is_refused(magic: int) -> None:
    memory = bytearray(HEADER_BYTES)
    Header(Kind.HELLO).write(memoryview(memory))
    struct.pack_into("<H", memory, 0, magic)
    with pytest.raises(ProtocolError, match=f"opens with {magic:#x}, not 0x4e01: do all ranks run the same nnlo"):
        Header.read(memoryview(memory))


def test_unknown_kind_is_refused() -> None:
    memory = bytearray(HEADER_BYTES)
    Header(Kind.HELLO).write(memoryview(memory))
    struct.pack_into("<H", memory, 2, 99)
    with pytest.raises(ProtocolError, match="does not know"):
        Header.read(memoryview(memory))
