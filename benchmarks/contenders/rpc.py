"""A parameter server by torch.distributed.rpc with two workers, asynchronous: one call an update, weights back.

python benchmarks/contenders/rpc.py mnist LIST
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from launch import side_by_side
from loops import shuffled, warm_up
from torch import Tensor, nn
from torch.distributed import rpc
from workloads import RATE, WORKLOADS, in_memory

WORKERS = 2
SERVER = "server"


class Server:
    """The weights, and their optimizer."""

    here: Server

    def __init__(self, workload: str) -> None:
        self.model, self.lock = WORKLOADS[workload].build(), threading.Lock()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=RATE)
        self.optimizer.zero_grad()
        self.waiting = threading.Barrier(WORKERS)

    def weights(self) -> list[Tensor]:
        return [parameter.detach() for parameter in self.model.parameters()]


def meet() -> list[Tensor]:
    """All workers are there; the weights."""
    Server.here.waiting.wait()
    return Server.here.weights()


def exchange(gradients: list[Tensor]) -> list[Tensor]:
    """Gradients up, weights down."""
    server = Server.here
    with server.lock:
        for parameter, gradient in zip(server.model.parameters(), gradients, strict=True):
            parameter.grad = gradient
        server.optimizer.step()
        return server.weights()


def work(workload: str, listed: Path, place: int) -> float:
    """The seconds of its training."""
    model = WORKLOADS[workload].build()
    x, y = in_memory(listed)
    x, y = x[place::WORKERS].contiguous(), y[place::WORKERS].contiguous()
    warm_up(workload, x, y)
    weights = rpc.rpc_sync(SERVER, meet)
    began = time.perf_counter()
    for rows in shuffled(len(x), WORKLOADS[workload].epochs):
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), weights, strict=True):
                parameter.copy_(value)
        model.zero_grad()
        nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
        weights = rpc.rpc_sync(SERVER, exchange, args=([parameter.grad for parameter in model.parameters()],))
    return time.perf_counter() - began


def rank(workload: str, listed: Path, number: int) -> None:
    torch.set_num_threads(1)
    if number == 0:
        Server.here = Server(workload)
    rpc.init_rpc(SERVER if number == 0 else f"worker{number}", rank=number, world_size=1 + WORKERS)
    seconds = work(workload, listed, number - 1) if number else 0.0
    rpc.shutdown()
    if number == 1:
        print(json.dumps({"seconds": seconds}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("list", type=Path)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank is not None:
        rank(arguments.workload, arguments.list, arguments.rank)
        return
    command = [sys.executable, __file__, arguments.workload, str(arguments.list), "--rank"]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29531"}
    sys.exit(side_by_side([[*command, str(number)] for number in range(1 + WORKERS)], **meeting))


if __name__ == "__main__":
    main()
