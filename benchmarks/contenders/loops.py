"""Plain torch training loops, one a process, side by side: all begin together, and may meet after every step.

python benchmarks/contenders/loops.py mnist LIST --count 2 --barrier
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import nn
from workloads import BATCH, RATE, WORKLOADS, in_memory


class Meeting:
    """Where two processes wait for one another, asleep; a process alone waits for nobody."""

    def __init__(self, end: socket.socket | None) -> None:
        self._end = end

    def __call__(self) -> None:
        if self._end is not None:
            self._end.send(b"x")
            self._end.recv(1)


def shuffled(samples: int, epochs: int) -> Iterator[torch.Tensor]:
    """The rows of each batch."""
    for _ in range(epochs):
        yield from torch.randperm(samples).split(BATCH)


def warm_up(workload: str, x: torch.Tensor, y: torch.Tensor) -> None:
    """Have torch load what it loads at first use, which takes some seconds."""
    train(WORKLOADS[workload].build(), x[:BATCH], y[:BATCH], 1)


def train(model: nn.Module, x: torch.Tensor, y: torch.Tensor, epochs: int, meet: Meeting | None = None) -> float:
    """Its seconds."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    began = time.perf_counter()
    for rows in shuffled(len(x), epochs):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
        if meet:
            meet()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("list", type=Path)
    parser.add_argument("--count", type=int, default=1, choices=(1, 2))
    parser.add_argument("--threads", type=int, default=1, help="of each loop")
    parser.add_argument("--barrier", action="store_true", help="meet after every step")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    x, y = in_memory(arguments.list)
    ends: tuple[socket.socket | None, ...] = socket.socketpair() if arguments.count == 2 else (None, None)
    child = os.fork() if arguments.count == 2 else -1
    torch.set_num_threads(arguments.threads)
    meet, place = Meeting(ends[child == 0]), int(child == 0)
    mine = slice(place, None, arguments.count)
    x, y, model = x[mine].contiguous(), y[mine].contiguous(), WORKLOADS[arguments.workload].build()
    warm_up(arguments.workload, x, y)
    meet()
    epochs = WORKLOADS[arguments.workload].epochs
    seconds = train(model, x, y, epochs, meet if arguments.barrier else None)
    if child == 0:
        os._exit(0)
    if child > 0:
        os.waitpid(child, 0)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
