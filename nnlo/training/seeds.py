"""Random streams: every rank and every purpose has its own, derived from the one seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import torch


class Purpose(IntEnum):
    MODEL = 0  # initial weights: the same on every rank
    RANK = 1  # dropout and whatever user code draws: one stream a rank
    SHUFFLE = 2  # the order of the samples: the same on every rank
    SPLIT = 3  # which samples validate: the same on every rank
    ALGORITHM = 4  # what modes and codecs draw: a stream a rank, and one that all have in common
    PARTS = 5  # which samples are whose, where they belong to workers: the same on every rank


def derived(seed: int, purpose: Purpose, peer: int = 0) -> int:
    """A 63-bit seed for one purpose of one rank."""
    return int(np.random.SeedSequence([seed, purpose, peer]).generate_state(1, np.uint64)[0] >> 1)


def streams(seed: int, peers: Sequence[int]) -> dict[str, Any]:
    """All seeds of a job as its history keeps them: what is drawn from which."""
    ranks = {str(peer): derived(seed, Purpose.RANK, peer) for peer in peers}
    return {"model": derived(seed, Purpose.MODEL), "shuffle": derived(seed, Purpose.SHUFFLE), "ranks": ranks}


def seed_everything(seed: int, choices: int | None = None) -> None:
    """Seed torch's, numpy's and Python's global streams; the latter two by `choices` where it is given.

    So the ranks of one worker can draw the same batches, by numpy or Python, and each its own dropout.
    """
    choices = seed if choices is None else choices
    torch.manual_seed(seed)
    np.random.seed(choices % 2**32)
    random.seed(choices)


def random_state() -> dict[str, Any]:
    """Where torch's, numpy's and Python's global streams are, as plain numbers and tensors."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, numbers, pending = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(gauss)],
        "python": [version, torch.tensor(numbers, dtype=torch.int64), pending],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Put them where `random_state` found them."""
    torch.set_rng_state(state["torch"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, numbers, pending = state["python"]
    random.setstate((version, tuple(numbers.tolist()), pending))
