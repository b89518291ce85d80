"""Trainings that stop and go on: stopping.py FOLDER WHAT MODE...

whole: without a stop, of which weights are left. repeated: asynchronously with a record, and again as it says. told: to
leave by a signal that rank 2 gets, or the launcher (Open MPI). again: from the last checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from mpi4py import MPI
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[3]))

from nnlo.errors import Preempted
from tests.golden.test_replay import repeatable
from tests.golden.test_restoring import algo_of, network
from tests.jobs import Run, same_bits, train

COMM = MPI.COMM_WORLD
FOLDER, WHATS, MODE = Path(sys.argv[1]), sys.argv[2].split(","), json.loads(sys.argv[3])
EPOCHS, STOP = 4, 9
CHECKPOINTS = {"checkpoint": FOLDER / "cp", "checkpoint_interval": 1, "restore": "auto"}


class Stopping(nn.Module):
    """Rank 2 does `stop` before its batch number STOP."""

    def __init__(self, stop: Any) -> None:
        super().__init__()
        self.network, self._stop, self._batches = network(), stop, 0

    def forward(self, x: Tensor) -> Tensor:
        self._batches += self.training
        if self._batches == STOP and COMM.rank == 2:
            self._stop()
        output: Tensor = self.network(x)
        return output


def tell() -> None:
    launcher = "Open MPI" in MPI.Get_library_version()
    os.kill(os.getppid() if launcher else os.getpid(), signal.SIGUSR1)


STOPS = {"told": tell}


def learn(what: str) -> Run | None:
    stop = STOPS.get(what, lambda: None)
    job = {**repeatable(), "algo": algo_of(MODE), "make": lambda: Stopping(stop), "epochs": EPOCHS}
    return train(COMM, **job, **({} if what == "whole" else CHECKPOINTS))


def repeat() -> None:
    first = train(COMM, **repeatable(), record=FOLDER / "r")
    again = train(COMM, **repeatable(), replay=FOLDER / "r")
    if first is not None and again is not None:
        torch.save(first.state, FOLDER / "repeated.pt")
        print("repeated" if same_bits(first.state, again.state) else "not repeated", flush=True)


def main() -> None:
    for what in WHATS:
        if what == "repeated":
            repeat()
            continue
        try:
            run = learn(what)
        except Preempted as left:
            sys.exit(left.exit_code)
        if run is not None:
            torch.save(run.state, FOLDER / f"{what}.pt")
            (FOLDER / f"{what}.json").write_text(json.dumps(run.history, default=str))


main()
