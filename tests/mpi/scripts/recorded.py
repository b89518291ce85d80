"""Trains with a record, and then again as it says: recorded.py FOLDER. Rank 0 leaves weights.pt and says `same`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from mpi4py import MPI

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.golden.test_replay import repeatable
from tests.jobs import same_bits, train


def main(folder: Path) -> None:
    first = train(MPI.COMM_WORLD, **repeatable(), record=folder / "r")
    again = train(MPI.COMM_WORLD, **repeatable(), replay=folder / "r")
    if first is not None and again is not None:
        torch.save(first.state, folder / "weights.pt")
        print("same" if same_bits(first.state, again.state) else "another", flush=True)


main(Path(sys.argv[1]))
