"""One worker hangs in its fourth batch: stalling.py HOW, in Python's sleep, or in C code that lets no Python run."""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Any

import numpy as np
import torch
from mpi4py import MPI
from torch import nn

from nnlo import Algo, Data, ModelBuilder, MPIManager

HANG = {"sleep": lambda: time.sleep(60), "held": lambda: ctypes.PyDLL(None).sleep(60)}[sys.argv[1]]


class Samples(Data):
    def load_data(self, file: str) -> tuple[np.ndarray, np.ndarray]:
        return np.ones((256, 1), "float32"), np.ones((256, 1), "float32")


class Hanging(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.batches = nn.Linear(1, 1), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches += self.training
        if self.batches == 4 and MPI.COMM_WORLD.rank == 2:
            HANG()
        time.sleep(0.02)
        output: torch.Tensor = self.linear(x)
        return output


class Builder(ModelBuilder):
    def build_model(self) -> nn.Module:
        return Hanging()


def main(**options: Any) -> None:
    comm, algo = MPI.COMM_WORLD, Algo("sgd", loss="mse")
    manager = MPIManager(comm, Samples(8), algo, Builder(comm), 2, ["all"], None, output=None, **options)
    history = manager.train()
    if history is not None:
        print(
            history["outcome"], [one["rank"] for one in history["lost"]], history["epochs"][-1]["samples"], flush=True
        )


main(stall_timeout=1.0)
