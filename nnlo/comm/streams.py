"""Random streams of ranks that share a process: each keeps its own torch, numpy and Python state."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def capture() -> tuple[Any, ...]:
    return torch.get_rng_state(), np.random.get_state(), random.getstate()


def restore(states: tuple[Any, ...]) -> None:
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])


class RandomStates:
    """Swaps the global random states whenever another rank runs; the caller's are back at the end."""

    def __enter__(self) -> RandomStates:
        self._outside = capture()
        self._kept: dict[int, tuple[Any, ...]] = {}
        self._current: int | None = None
        return self

    def __exit__(self, *_: object) -> None:
        restore(self._outside)

    @contextmanager
    def of(self, rank: int) -> Iterator[None]:
        if rank != self._current:
            if self._current is not None:
                self._kept[self._current] = capture()
            restore(self._kept.get(rank, self._outside))
            self._current = rank
        yield


class SharedRandomState(RandomStates):
    """All ranks draw from the same streams; the caller's are back at the end."""

    @contextmanager
    def of(self, rank: int) -> Iterator[None]:
        yield


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """torch computes with one thread meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
