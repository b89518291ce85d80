"""PyTorch's DistributedDataParallel over gloo, the data in memory, one thread a process.

python benchmarks/contenders/ddp.py mnist LIST
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.distributed
from launch import side_by_side
from loops import train, warm_up
from workloads import WORKLOADS, in_memory

COUNT = 2


def rank(workload: str, listed: Path, meeting: str, place: int) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=place, world_size=COUNT)
    x, y = in_memory(listed)
    model = torch.nn.parallel.DistributedDataParallel(WORKLOADS[workload].build())
    x, y = x[place::COUNT].contiguous(), y[place::COUNT].contiguous()
    warm_up(workload, x, y)
    torch.distributed.barrier()
    seconds = train(model, x, y, WORKLOADS[workload].epochs)
    torch.distributed.destroy_process_group()
    if place == 0:
        print(json.dumps({"seconds": seconds}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("list", type=Path)
    parser.add_argument("--rank", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank:
        rank(arguments.workload, arguments.list, arguments.rank[0], int(arguments.rank[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, arguments.workload, str(arguments.list), "--rank", f"{folder}/meeting"]
        code = side_by_side([[*command, str(place)] for place in range(COUNT)])
    sys.exit(code)


if __name__ == "__main__":
    main()
