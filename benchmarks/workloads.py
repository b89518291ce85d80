"""What the contenders train: a network, and data of its shape, random but the same for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from nnlo.data.lists import read_list
from nnlo.model import load_model

BATCH, RATE = 100, 0.01
FILES = 8


@dataclass(frozen=True)
class Workload:
    """A model of nnlo.models by name, and how many samples of which shape an epoch has; how many epochs are timed."""

    model: str
    shape: tuple[int, ...]
    samples: int
    epochs: int
    params: Mapping[str, Any]

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        return load_model(self.model).get_model(**self.params)

    @property
    def flags(self) -> list[str]:
        """The same for `TrainingDriver`."""
        params = ",".join(f"{name}={value}" for name, value in self.params.items())
        settings = ["--batch", str(BATCH), "--epochs", str(self.epochs)]
        return ["--model", self.model, *(["--model-params", params] if params else []), *settings]

    def write(self, folder: Path) -> Path:
        """HDF5 files of float32 features and integer labels; the list that names them."""
        rng = np.random.default_rng(0)
        names = [folder / f"{self.model}_{number}.h5" for number in range(FILES)]
        for name in names:
            with h5py.File(name, "w") as file:
                file["features"] = rng.random((self.samples // FILES, *self.shape), dtype=np.float32)
                file["labels"] = rng.integers(0, 10, self.samples // FILES)
        listed = folder / f"{self.model}.list"
        listed.write_text("\n".join(map(str, names)))
        return listed


#: About as long each: 22 thousand, 1.9 million and 10 million parameters.
WORKLOADS = {
    "mnist": Workload("mnist", (28, 28, 1), 24_000, 4, {}),
    "cifar10": Workload("cifar10", (32, 32, 3), 2_400, 2, {"dropout": 0.0}),
    "mlp": Workload("mlp", (784,), 4_000, 2, {"hidden": 2048, "layers": 3}),
}


def in_memory(train_list: Path) -> tuple[Tensor, Tensor]:
    """All features and labels."""
    parts = []
    for name in read_list(train_list, "--train-data"):
        with h5py.File(name, "r", locking=False) as file:
            parts.append((torch.from_numpy(file["features"][:]), torch.from_numpy(file["labels"][:])))
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])
