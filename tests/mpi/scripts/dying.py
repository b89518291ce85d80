"""Trains while ranks die: dying.py FOLDER SETTINGS, where SETTINGS is JSON.

{"kills": [[rank, step, whom], ...], "algo": {...}, "manager": {...}}: at that step of its own a rank kills another one,
or itself, for good; rank 0 when the training is over. Sample n takes 1 off weight n each time that it is trained on.
Rank 0 leaves found.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI
from torch import nn

from nnlo import Algo, Callback, Data, ModelBuilder, MPIManager

SAMPLES, BATCH = 384, 8
COMM = MPI.COMM_WORLD
FOLDER, SETTINGS = Path(sys.argv[1]), json.loads(sys.argv[2])


class Samples(Data):
    def load_data(self, file: str) -> tuple[np.ndarray, np.ndarray]:
        return np.arange(SAMPLES, dtype="float64")[:, None], np.full((SAMPLES, 1), -1000.0)


def kill(killer: int, now: int) -> None:
    for rank, step, whom in SETTINGS["kills"]:
        if (rank, step) == (killer, now):
            os.kill(int((FOLDER / str(whom)).read_text()), signal.SIGKILL)


class Last(Callback):
    def on_train_end(self, logs: dict[str, float]) -> None:
        kill(0, 0)


class Mortal(nn.Module):
    """Output n is w[n] for sample n."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(SAMPLES, dtype=torch.float64))
        self.steps = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            kill(COMM.rank, self.steps)
            self.steps += 1
            time.sleep(0.01)  # so that no rank has done everything before the others begin
        return self.w[x[:, 0].long()].unsqueeze(1)


class Builder(ModelBuilder):
    def build_model(self) -> nn.Module:
        return Mortal()


def main() -> None:
    (FOLDER / str(COMM.rank)).write_text(str(os.getpid()))
    algo = Algo(**{"loss": "mae", "metrics": ()} | (SETTINGS["algo"] or {"optimizer": "sgd", "lr": BATCH}))
    given = {"num_epochs": 2, "output": None, "callbacks": [Last()]} | SETTINGS["manager"]
    manager = MPIManager(COMM, Samples(BATCH), algo, Builder(COMM), train_list=["all"], val_list=None, **given)
    history = manager.train()
    if history is not None and manager.model is not None:
        weights = manager.model.state_dict()["w"].tolist()
        (FOLDER / "found.json").write_text(json.dumps({"w": weights, "history": history}))


main()
