"""The 1,797 real handwritten digits that scikit-learn brings along: nothing to fetch, small enough for a first run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from nnlo.data.prepare.pieces import Images, Split
from nnlo.errors import OptionsError

TEST_SAMPLES = 360
SEED = 0
SIDE, MARGIN = 20, 4


def load(source: Path | None = None) -> Split:
    """1,437 training and 360 test samples (28, 28, 1); the same ones every time.

    Raises OptionsError if `source` is given.
    """
    if source is not None:
        raise OptionsError("--source: 'digits' comes with scikit-learn, leave the flag out")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(SEED).permutation(len(bunch.target))
    pixels, labels = enlarged(bunch.images)[order], bunch.target[order]
    parts = slice(None, -TEST_SAMPLES), slice(-TEST_SAMPLES, None)
    return Split(*(Images(pixels[part], labels[part], classes=10) for part in parts))


def enlarged(images: NDArray[Any]) -> NDArray[np.float32]:
    """(N, 8, 8) in 0..16 as float32 (N, 28, 28, 1) in 0..1: 20x20 in an empty frame, as MNIST places its digits."""
    small = torch.from_numpy(images / 16).float().unsqueeze(1)
    smooth = functional.interpolate(small, size=(SIDE, SIDE), mode="bicubic", align_corners=False).clamp(0, 1)
    framed: NDArray[np.float32] = functional.pad(smooth, (MARGIN,) * 4).squeeze(1).unsqueeze(-1).numpy()
    return framed
