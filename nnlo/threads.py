"""How many threads torch may use on this rank."""

from __future__ import annotations

import os

import torch


def set_threads(ranks_here: int) -> int:
    """Share the cores that this process may use among the ranks of its node; OMP_NUM_THREADS wins."""
    if not os.environ.get("OMP_NUM_THREADS", "").isdigit():
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // ranks_here))
    return torch.get_num_threads()
