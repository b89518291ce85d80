"""Three blobs of points for the user's program by_the_book.py: the files, the model, and `Data` in each of its ways.

Column 0 of the features is the sample's number; the model notes in `SEEN` which ones it is trained on and ignores it
otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from nnlo import Data, ModelBuilder

Batch = tuple[NDArray[np.float32], NDArray[np.int64]]

ROWS, FILES = 20, 6
SAMPLES = ROWS * FILES
CENTRES = np.array([[2.0, 0.0], [-2.0, 2.0], [-1.0, -3.0]])
SEEN: list[int] = []
"""The numbers of the samples that this rank has trained on since `SEEN.clear()`, in that order."""


class Net(torch.nn.Module):
    """x of (batch, 3), or its number (batch, 1) and point (batch, 2) as two inputs; logits of (batch, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(2, len(CENTRES))

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        x = torch.cat(inputs, dim=1)
        if self.training:
            SEEN.extend(x[:, 0].int().tolist())
        logits: torch.Tensor = self.dense(x[:, 1:])
        return logits


class Builder(ModelBuilder):
    """Builds `Net`: the user's own builder."""

    def build_model(self) -> Net:
        return Net()


def samples(start: int, stop: int) -> Batch:
    """The samples [start, stop), the same in each call: x of (stop - start, 3) and the numbers of their blobs."""
    numbers = np.arange(start, stop)
    labels = numbers % len(CENTRES)
    noise = np.stack([np.random.default_rng(number).normal(size=2) for number in numbers])
    points = CENTRES[labels] + 0.5 * noise
    return np.column_stack([numbers, points]).astype(np.float32), labels.astype(np.int64)


def write_files(folder: Path) -> None:
    """FILES files of ROWS samples, as .npz and as .h5, whose names end in their numbers."""
    for number in range(FILES):
        x, y = samples(number * ROWS, (number + 1) * ROWS)
        np.savez(folder / f"blobs{number}.npz", x=x, y=y)
        with h5py.File(folder / f"blobs{number}.h5", "w") as file:
            file["inputs/b_point"] = x[:, 1:]
            file["inputs/a_number"] = x[:, :1]
            file["kind"] = y
    (folder / "train.txt").write_text("".join(f"{folder}/blobs{number}.h5\n" for number in range(FILES)))


class Loads(Data):
    """`load_data`: nnlo shards the samples and shuffles them."""

    def load_data(self, file: str) -> Batch:
        with np.load(file) as arrays:
            return arrays["x"], arrays["y"]


class ByFiles(Loads):
    """`generate_data` that reads its files, whole."""

    def generate_data(self) -> Iterator[Batch]:
        for file in self.file_names:
            yield self.load_data(file)


class InTurn(Data):
    """`generate_data` that reads no files: it makes all samples on every worker."""

    def generate_data(self) -> Iterator[Batch]:
        for start in range(0, SAMPLES, self.batch_size):
            yield samples(start, min(start + self.batch_size, SAMPLES))


class OwnShare(Data):
    """`generate_data` that makes this worker's share alone: every num_workers-th file."""

    shards_itself = True

    def generate_data(self) -> Iterator[Batch]:
        for number in range(self.worker, FILES, self.num_workers):
            yield samples(number * ROWS, (number + 1) * ROWS)

    def count_data(self) -> int:
        return ROWS * len(range(self.worker, FILES, self.num_workers))
