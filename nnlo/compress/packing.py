"""Small whole numbers packed into bytes without a gap: n codes of b bits take ceil(n b / 8) bytes.

    memory = torch.zeros(packed_bytes(len(codes), 3), dtype=torch.uint8)
    pack(codes, 3, memory)
    unpack(memory, 3, out)

Up to 8 bits, bit j of code i is bit (i b + j) % 8 of byte (i b + j) // 8. Wider codes lie as planes, one after
another: the low 16 or 8 bits of all codes as they are, and the bits above packed in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

Array: TypeAlias = "np.ndarray[Any, Any]"
#: Codes that are packed at a time, so that what is in between stays in the cache.
BLOCK = 1 << 18
#: Bits of the halves that are moved together, step by step.
HALVES = (8, 16, 32)
WORD = np.dtype("<u8")


def packed_bytes(n: int, bits: int) -> int:
    """What `n` codes of `bits` bits take."""
    return -(-n * bits // 8)


def pack(codes: Tensor, bits: int, memory: Tensor) -> None:
    """Write codes, shape (n,), of 0 to 2**bits - 1 into `memory`, uint8 of shape (packed_bytes(n, bits),).

    `codes` is of any type of whole numbers that holds them, or bool.
    """
    source, target = codes.numpy(), memory.numpy()
    for block, shift, width, part in pieces(len(source), bits):
        write(source[block] >> shift if shift else source[block], width, target[part])


def unpack(memory: Tensor, bits: int, out: Tensor) -> None:
    """Overwrite `out`, shape (n,) of any type that holds the codes, with what `pack` was given."""
    source, target = memory.numpy(), out.numpy()
    for block, shift, width, part in pieces(len(target), bits):
        if shift == 0:
            read(source[part], width, target[block])
        else:
            above = np.empty(block.stop - block.start, np.int32)
            read(source[part], width, above)
            np.add(target[block], above << shift, out=target[block], casting="unsafe")


def pieces(n: int, bits: int) -> Iterator[tuple[slice, int, int, slice]]:
    """Block by block the planes of n codes: which codes, their lowest bit, how many bits, and which bytes."""
    for first in range(0, n, BLOCK):
        count = min(BLOCK, n - first)
        shift = start = 0
        while shift < bits:
            width = next(width for width in (16, 8, bits - shift) if width <= bits - shift)
            begin = start + first * width // 8
            yield slice(first, first + count), shift, width, slice(begin, begin + packed_bytes(count, width))
            shift, start = shift + width, start + packed_bytes(n, width)


def write(codes: Array, width: int, memory: Array) -> None:
    """Pack one plane of a block."""
    if width == 1:
        memory[:] = np.packbits(codes.astype(np.bool_, copy=False), bitorder="little")
    elif width in (8, 16):
        np.copyto(memory.view(f"<u{width // 8}"), codes, casting="unsafe")
    else:
        words = np.zeros(-(-len(codes) // 8), WORD)
        np.copyto(words.view(np.uint8)[: len(codes)], codes, casting="unsafe")
        write_lower(gathered(words, width), width, memory)


def read(memory: Array, width: int, out: Array) -> None:
    """Unpack one plane of a block."""
    if width == 1:
        out[:] = np.unpackbits(memory, count=len(out), bitorder="little")
    elif width in (8, 16):
        out[:] = memory.view(f"<u{width // 8}")
    else:
        words = read_lower(memory, width, -(-len(out) // 8))
        out[:] = spread(words, width).view(np.uint8)[: len(out)]


def gathered(words: Array, bits: int) -> Array:
    """The `bits` low bits of each byte of a word together at its lower end: two halves at a time; overwrites it."""
    for half in HALVES:
        held = half * bits // 8
        upper = words >> np.uint64(half - held) & lanes(half, held, at=held)
        words &= lanes(half, held)
        words |= upper
    return words


def spread(words: Array, bits: int) -> Array:
    """The steps of `gathered` backwards."""
    for half in reversed(HALVES):
        held = half * bits // 8
        upper = words << np.uint64(half - held) & lanes(half, held, at=half)
        words &= lanes(half, held)
        words |= upper
    return words


def lanes(half: int, held: int, at: int = 0) -> np.uint64:
    """A mask of `held` bits, from bit `at` on, in each lane of two halves of a word."""
    return np.uint64(sum((1 << held) - 1 << at + lane for lane in range(0, 64, 2 * half)))


def write_lower(words: Array, bits: int, memory: Array) -> None:
    """The lower `bits` bytes of each word, one after another, as many as there is memory for."""
    whole = len(memory) // bits
    rows, target = words.view(np.uint8).reshape(-1, 8), memory[: whole * bits].reshape(-1, bits)
    for column in range(bits):
        target[:, column] = rows[:whole, column]
    memory[whole * bits :] = rows[whole:].ravel()[: len(memory) - whole * bits]


def read_lower(memory: Array, bits: int, count: int) -> Array:
    """What `write_lower` has written, as `count` words."""
    whole, words = len(memory) // bits, np.zeros(count, WORD)
    rows, source = words.view(np.uint8).reshape(-1, 8), memory[: whole * bits].reshape(-1, bits)
    for column in range(bits):
        rows[:whole, column] = source[:, column]
    rows[whole:].ravel()[: len(memory) - whole * bits] = memory[whole * bits :]
    return words
