"""The time of one exchange: an update up, the master's step, weights down; next to MPI's own.

    python benchmarks/exchange.py --rounds 5 --out exchange.json

The limit is a ping-pong of the same bytes by plain MPI calls with the same step in between, in place. `shm` and `mpi`
are one worker's exchanges in a training of this library, by `--transport`, from its timeline: from the moment that its
update is complete until it has the new weights.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from launch import ranks_of
from paired import interleaved, medians, ratios
from torch import Tensor, nn

from nnlo import Algo, Data, ModelBuilder, MPIManager

SIZES = (10**4, 10**5, 10**6, 10**7, 10**8)
LIMIT = "limit"
RATE = 0.01
WARM_UP = 5


def turns(parameters: int) -> int:
    """Exchanges that are timed: about a second of them."""
    return max(8, min(1000, 2 * 10**8 // parameters))


class Touch(torch.autograd.Function):
    """A model that costs nothing: its gradient stays as it is."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        return None, None


class Vector(nn.Module):
    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(parameters))

    def forward(self, x: Tensor) -> Tensor:
        return Touch.apply(self.weights, x)  # type: ignore[no-any-return,no-untyped-call]


class Builder(ModelBuilder):
    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.parameters = parameters

    def build_model(self) -> nn.Module:
        return Vector(self.parameters)


class Batches(Data):
    def __init__(self, count: int) -> None:
        super().__init__(1)
        self.count = count

    def generate_data(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for _ in range(self.count):
            yield np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)


def limit(comm: Any, parameters: int) -> list[float]:
    """Seconds of each round trip, on rank 1."""
    mine, other = torch.zeros(parameters), torch.zeros(parameters)
    seconds = []
    for _ in range(WARM_UP + turns(parameters)):
        began = time.perf_counter()
        if comm.rank == 1:
            comm.Send(other.numpy(), 0)
            comm.Recv(mine.numpy(), 0)
        else:
            comm.Recv(other.numpy(), 1)
            mine.add_(other, alpha=-RATE)
            comm.Send(mine.numpy(), 1)
        seconds.append(time.perf_counter() - began)
    return seconds


def trained(comm: Any, parameters: int, transport: str, folder: str) -> list[float]:
    """Seconds of each exchange of the worker, on rank 0."""
    algo = Algo("sgd", lr=RATE, loss="mse", metrics=())
    data, builder = Batches(WARM_UP + turns(parameters)), Builder(parameters)
    options: dict[str, Any] = {"output": folder, "save_model": False, "timeline": True, "transport": transport}
    manager = MPIManager(comm, data, algo, builder, 1, None, None, trial_name="exchange", overwrite=True, **options)
    if manager.train() is None:
        return []
    assert manager.files is not None and manager.files.timeline is not None
    events = json.loads(manager.files.timeline.read_text())["traceEvents"]
    return [event["dur"] * 1e-6 for event in events if event["name"] == "exchange" and event["args"]["bytes"] > 1000]


def rank(way: str, parameters: int, folder: str) -> None:
    """What each rank of a launch does; the one that knows prints the median in seconds."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    seconds = limit(comm, parameters) if way == LIMIT else trained(comm, parameters, way, folder)
    if comm.rank == (1 if way == LIMIT else 0):
        print(statistics.median(seconds[WARM_UP:]), flush=True)


def measured(way: str, parameters: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        return {"microseconds": 1e6 * ranks_of(__file__, 2, way, parameters, folder)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=float, nargs="+", default=SIZES, help="numbers of parameters")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    parser.add_argument("--rank", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank:
        way, parameters, folder = arguments.rank
        rank(way, int(parameters), folder)
        return
    found: dict[str, Any] = {}
    lines = ["| parameters | limit | shm | mpi |", "| --- | --- | --- | --- |"]
    for size in map(int, arguments.sizes):
        ways = (LIMIT, "shm", "mpi")
        figures = interleaved({way: partial(measured, way, size) for way in ways}, arguments.rounds)
        found[str(size)] = figures
        middle = {way: statistics.median(ratios(figures, way, LIMIT, "microseconds")) for way in ways[1:]}
        cells = [f"{middle[way]:.2f} ({medians(figures)[way]['microseconds']:,.0f} us)" for way in ways[1:]]
        lines.append(f"| {size:,} | {medians(figures)[LIMIT]['microseconds']:,.0f} us | {' | '.join(cells)} |")
    print("\n" + "\n".join(lines))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
