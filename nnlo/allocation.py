"""Have the C library keep memory that is freed, for the next batch.

By default glibc gives large pieces back to the system at once, and a page that comes anew has to be cleared first: a
step of a network of 1.9 million parameters gets some 10,000 such pages (`python benchmarks/allocation.py`).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

#: What users set where they want it otherwise.
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
#: Larger pieces are given back all the same: glibc takes no larger threshold.
LARGEST_KEPT = 32 << 20
#: Free bytes at the end of the heap beyond which they are given back.
MOST_FREE = 512 << 20


def keep_freed_memory(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether that could be asked for: not of other C libraries, nor where the environment says how."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or any(name in environment for name in VARIABLES):
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST_KEPT)) and bool(mallopt(M_TRIM_THRESHOLD, MOST_FREE))
