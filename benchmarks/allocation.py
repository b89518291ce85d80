"""What it gains to keep freed memory: a plain torch step with glibc's defaults and with nnlo's, each in turn.

python benchmarks/allocation.py --rounds 5 --out allocation.json
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from functools import partial
from pathlib import Path

import torch
from launch import figures
from paired import interleaved, report
from torch import nn
from workloads import BATCH, RATE, WORKLOADS

from nnlo.allocation import keep_freed_memory

STEPS, WARM_UP = 40, 5
DEFAULT = "glibc's defaults"


def steps(workload: str) -> dict[str, float]:
    """Steps per second by the median, fresh pages a step, and the peak memory of this process."""
    torch.set_num_threads(1)
    model, shape = WORKLOADS[workload].build(), WORKLOADS[workload].shape
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    x, y = torch.rand(BATCH, *shape), torch.randint(10, (BATCH,))
    seconds, pages = [], []
    for _ in range(WARM_UP + STEPS):
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - began)
        pages.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return {
        "steps_per_second": 1 / statistics.median(seconds[WARM_UP:]),
        "pages_a_step": statistics.mean(pages[WARM_UP:]),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measured(workload: str, keeps: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--here", workload, *(["--keep"] if keeps else [])]
    found: dict[str, float] = figures(command)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for a JSON file a workload")
    parser.add_argument("--here", choices=WORKLOADS, help=argparse.SUPPRESS)
    parser.add_argument("--keep", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        if arguments.keep:
            keep_freed_memory()
        print(json.dumps(steps(arguments.here)))
        return
    for workload in WORKLOADS:
        contenders = {
            DEFAULT: partial(measured, workload, False),
            "freed memory kept": partial(measured, workload, True),
        }
        out = arguments.out / f"allocation_{workload}.json" if arguments.out else None
        report(interleaved(contenders, arguments.rounds), DEFAULT, "steps_per_second", out)


if __name__ == "__main__":
    main()
