"""Search the width and the learning rate of a network for two spirals: mpirun -np 5 python own_search.py"""

from typing import Any

import numpy as np
import torch
from mpi4py import MPI
from torch import nn

from nnlo import Algo, Data, ModelBuilder, MPIManager
from nnlo.optimize import optimize

SPACE = {
    "width": {"type": "integer", "low": 4, "high": 64, "log": True},
    "lr": {"low": 1e-3, "high": 1e-1, "log": True},
    "optimizer": ["sgd", "adam"],
}


class Spirals(Data):
    """A "file" is the seed of 500 points on two spirals."""

    def load_data(self, file: str) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(int(file))
        label = rng.integers(2, size=500)
        angle = rng.uniform(0.5, 3.0, 500) * np.pi
        x = angle * np.array([np.cos(angle + np.pi * label), np.sin(angle + np.pi * label)]) / 10
        return x.T.astype(np.float32), label


class Network(ModelBuilder):
    def __init__(self, comm: MPI.Comm, width: int) -> None:
        super().__init__(comm)
        self.width = width

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(2, self.width), nn.Tanh(), nn.Linear(self.width, self.width), nn.Tanh(),
                             nn.Linear(self.width, 2))  # fmt: skip


def build(comm: MPI.Comm, parameters: dict[str, Any], **options: Any) -> MPIManager:
    """The manager of a trial, on the ranks of one block."""
    algo = Algo(parameters["optimizer"], lr=parameters["lr"], loss="categorical_crossentropy")
    files = [str(seed) for seed in range(8)]
    network = Network(comm, parameters["width"])
    return MPIManager(comm, Spirals(25), algo, network, 8, files, ["100", "101"], output=None, **options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    search = optimize(MPI.COMM_WORLD, build, SPACE, block_size=2, iterations=12, verbose=True)
    if search is not None and search.best is not None:
        print(f"validation loss {search.best.figure:.3f} with {search.best.parameters}")
