"""Whether the master's memory grows over very many exchanges.

    mpirun -np 3 python benchmarks/soak.py --exchanges 100000

A small network is trained on random numbers for so many updates of the centre, in 20 epochs, with a validation at the
end of each and a checkpoint every ten seconds. What rank 0 has in memory after the first tenth is compared with what
it has at the end. Ends with 1 where that has grown by 1 % or more.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
from mpi4py import MPI

from nnlo import Algo, Callback, Data, ModelBuilder, MPIManager
from nnlo.algos import MODES

INPUTS, CLASSES, BATCH, EPOCHS = 64, 10, 10, 20
LIMIT = 0.01


class Noise(Data):
    def __init__(self, samples: int) -> None:
        super().__init__(BATCH)
        self.samples = samples

    def load_data(self, file: str) -> tuple[Any, Any]:
        rng = np.random.default_rng(0)
        return rng.random((self.samples, INPUTS), np.float32), rng.integers(CLASSES, size=self.samples)


class Network(ModelBuilder):
    def build_model(self) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(INPUTS, 64), torch.nn.ReLU(), torch.nn.Linear(64, CLASSES))


class Resident(Callback):
    """Bytes of rank 0 in memory, by update: a look every so many."""

    def __init__(self, every: int) -> None:
        self.every, self.seen = every, list[tuple[int, int]]()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        if (batch + 1) % self.every == 0:
            with open("/proc/self/statm") as file:
                pages = int(file.read().split()[1])
            self.seen.append((batch + 1, pages * os.sysconf("SC_PAGE_SIZE")))


def growth(seen: list[tuple[int, int]]) -> tuple[int, int]:
    """The most bytes within the first tenth of the updates, and within the last."""
    updates = seen[-1][0]
    first = [size for update, size in seen if update <= updates / 10]
    last = [size for update, size in seen if update > updates * 9 / 10]
    return max(first), max(last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exchanges", type=int, default=100_000)
    parser.add_argument("--mode", default="downpour")
    given = parser.parse_args()
    comm, watched = MPI.COMM_WORLD, Resident(max(1, given.exchanges // 200))
    algo = Algo("sgd", lr=0.01, mode=given.mode) if MODES[given.mode].needs_optimizer else Algo(None, mode=given.mode)
    folder = tempfile.mkdtemp() if comm.rank == 0 else None
    base = comm.bcast(folder)
    data, val = Noise(given.exchanges // EPOCHS * BATCH), Noise(1000)
    began = time.perf_counter()
    manager = MPIManager(
        comm, data, algo, Network(comm), EPOCHS, ["train"], ["val"], val_data=val, output=None, checkpoint=base,
        checkpoint_every="10s", checkpoint_interval=EPOCHS, callbacks=[watched],
    )  # fmt: skip
    manager.train()
    if comm.rank == 0:
        first, last = growth(watched.seen)
        grown, seconds = last / first - 1, time.perf_counter() - began
        sizes = f"{first / 2**20:.1f} MiB in the first tenth, {last / 2**20:.1f} MiB in the last"
        print(f"{given.mode}: {watched.seen[-1][0]:,} updates in {seconds:.0f} s: {sizes}: {grown:+.2%}", flush=True)
        sys.exit(int(grown >= LIMIT))


if __name__ == "__main__":
    main()
