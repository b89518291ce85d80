"""Samples/s of a master and two workers, beside plain torch loops, DDP over gloo and a torch RPC parameter server.

    python benchmarks/throughput.py --rounds 5 --out .

All train the same networks (`workloads.py`) in batches of 100 by plain SGD, one thread a process. What counts is the
training clock; start-up is all else that a command takes: imports, the data, the first batch, files at the end. The
peers have their data in memory, nnlo reads HDF5 while it trains and measures loss and accuracy of every batch. The
limit of asynchronous modes is two plain loops side by side, that of the others two that meet after every step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeAlias

from launch import said
from paired import interleaved, medians, ratios
from workloads import WORKLOADS, Workload

CONTENDERS = Path(__file__).parent / "contenders"
KEY = "samples_per_second"
LIMIT, MEETING, DDP = "two loops", "two loops that meet", "DDP, gloo, 2 processes"
SGD = "--optimizer sgd --lr 0.01"

Measure: TypeAlias = Callable[[], dict[str, float]]

#: Script and flags.
PEERS = {
    LIMIT: "loops.py --count 2",
    MEETING: "loops.py --count 2 --barrier",
    "one loop": "loops.py",
    "one loop, 2 threads": "loops.py --threads 2",
    DDP: "ddp.py",
    "RPC parameter server, 2 workers": "rpc.py",
}
#: Flags of `TrainingDriver`, and the number of workers.
MODES = {
    "downpour": (SGD, 2),
    "downpour --pipeline": (f"{SGD} --pipeline", 2),
    "downpour --hogwild": (f"{SGD} --hogwild", 2),
    "easgd": ("--mode easgd --elastic-lr 0.01", 2),
    "gem": ("--mode gem --gem-lr 0.01", 2),
    "downpour --synchronous": (f"{SGD} --synchronous", 2),
    "vote": ("--mode vote --lr 0.01", 2),
    "allreduce": (f"--mode allreduce {SGD}", 2),
    "local --sync-every 8": ("--mode local --sync-every 8 --worker-optimizer sgd --worker-optimizer-params lr=0.01", 2),
    "downpour, 4 workers": (SGD, 4),
    "downpour, 8 workers": (SGD, 8),
}


def timed(command: list[str], samples: int, seconds_of: Callable[[str], float]) -> dict[str, float]:
    """A command that trains so many samples, and what tells from its output how long that took."""
    began = time.perf_counter()
    seconds = seconds_of(said(command))
    return {KEY: samples / seconds, "startup": time.perf_counter() - began - seconds}


def peer(workload: Workload, listed: Path, line: str) -> dict[str, float]:
    script, *flags = line.split()
    command = [sys.executable, str(CONTENDERS / script), workload.model, str(listed), *flags]
    return timed(command, workload.samples * workload.epochs, lambda text: float(json.loads(text)["seconds"]))


def nnlo(workload: Workload, listed: Path, flags: str, workers: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        command = ["mpirun", "-np", str(workers + 1), "TrainingDriver", "--train-data", str(listed), *workload.flags]
        files = ["--output", folder, "--no-save-model"]
        return timed(
            [*command, *files, *flags.split()],
            workload.samples * workload.epochs,
            lambda text: float(json.loads(next(Path(folder).glob("*_history.json")).read_text())["seconds"]),
        )


def contenders(workload: Workload, listed: Path, wanted: list[str]) -> dict[str, Measure]:
    ours = {name: partial(nnlo, workload, listed, flags, workers) for name, (flags, workers) in MODES.items()}
    theirs = {name: partial(peer, workload, listed, line) for name, line in PEERS.items()}
    return {name: run for name, run in {**theirs, **ours}.items() if not wanted or name in (*wanted, LIMIT, MEETING)}


def table(found: Mapping[str, list[dict[str, float]]]) -> str:
    bases = [base for base in (LIMIT, MEETING, DDP) if base in found]
    lines = [
        f"| | samples/s | {' | '.join(f'of {base}' for base in bases)} | start-up, s |",
        "| --- " * (3 + len(bases)) + "|",
    ]
    for name, middle in medians(found).items():
        cells = [spread(ratios(found, name, base, KEY)) for base in bases]
        lines.append(f"| {name} | {middle[KEY]:,.0f} | {' | '.join(cells)} | {middle['startup']:.1f} |")
    return "\n".join(lines)


def spread(each: list[float]) -> str:
    return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--only", nargs="+", default=[], choices=[*PEERS, *MODES], help="beside the two limits")
    parser.add_argument("--out", type=Path, help="folder for throughput.json")
    arguments = parser.parse_args()
    everything = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.workloads:
            listed = WORKLOADS[name].write(Path(folder))
            found = interleaved(contenders(WORKLOADS[name], listed, arguments.only), arguments.rounds)
            everything[name] = found
            print(f"\n{name}\n\n{table(found)}\n", flush=True)
            if arguments.out is not None:
                (arguments.out / "throughput.json").write_text(json.dumps(everything, indent=1))


if __name__ == "__main__":
    main()
