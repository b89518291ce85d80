"""Many passes over long vectors as one: so many elements at a time that what is in between stays in the cache.

A vector of 10 million numbers goes through memory once for each operation otherwise, and each tensor that one makes
of it is memory that the system has to clear.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

#: Elements at a time: 256 KiB of float32.
BLOCK = 1 << 16


def blocks(*vectors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same elements of each vector, all of shape (n,), BLOCK at a time."""
    return zip(*(torch.split(vector, BLOCK) for vector in vectors), strict=True)
