"""What --timeline and --monitor cost: of one span in nanoseconds, of a training in CPU time and in samples/s.

    python benchmarks/timeline.py --rounds 5

Trains without, with --timeline and with --monitor 1 in turns: in this process by the CPU time of the training, which
depends less on what else the machine does, and over mpirun by wall time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from paired import interleaved, report
from throughput import SGD, nnlo
from workloads import WORKLOADS

from nnlo import Algo, Callback, H5Data, ModelPytorch, MPIManager
from nnlo.comm.trace import Recording, Trace

CALLS = 200_000
FLAGS = {"neither": "", "--timeline": "--timeline", "--monitor 1": "--monitor 1"}
OPTIONS: dict[str, dict[str, Any]] = {"neither": {}, "--timeline": {"timeline": True}, "--monitor 1": {"monitor": 1.0}}


def span_seconds(trace: Trace) -> float:
    """The time that one span costs whoever tells it: two calls."""
    began = time.perf_counter()
    for _ in range(CALLS):
        since = trace.now()
        trace.add("step", since, 1, 1, 100, 1)
    return (time.perf_counter() - began) / CALLS


class CpuTime(Callback):
    """CPU seconds of this process from the first update until all spans are gathered."""

    def on_train_begin(self, logs: dict[str, Any]) -> None:
        self.began = time.process_time()

    def on_train_end(self, logs: dict[str, Any]) -> None:
        self.seconds = time.process_time() - self.began


def in_one_process(train_list: Path, epochs: int, **options: Any) -> dict[str, float]:
    """Samples by CPU second, and how many spans were kept by second of training."""
    torch.set_num_threads(1)
    cpu, algo, model = CpuTime(), Algo("sgd", lr=0.01), ModelPytorch(None, "mnist")
    with tempfile.TemporaryDirectory() as folder:
        settings = {"output": folder, "callbacks": [cpu], **options}
        manager = MPIManager(None, H5Data(100), algo, model, epochs, train_list, None, **settings)
        history = manager.train()
        assert history is not None and manager.files is not None
        timeline = manager.files.timeline
        events = json.loads(timeline.read_text())["traceEvents"] if timeline.exists() else []
    samples = history["epochs"][-1]["samples"]
    return {"samples_per_cpu_second": samples / cpu.seconds, "spans_per_second": len(events) / history["seconds"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for JSON files of all figures")
    arguments = parser.parse_args()
    on, off = span_seconds(Recording(time.perf_counter)), span_seconds(Trace())
    print(f"a span: {1e9 * on:.0f} ns with --timeline, {1e9 * off:.0f} ns without", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        mnist = WORKLOADS["mnist"]
        train_list = mnist.write(Path(folder))
        here = {name: partial(in_one_process, train_list, arguments.epochs, **given) for name, given in OPTIONS.items()}
        real = {name: partial(nnlo, mnist, train_list, f"{SGD} {given}", 2) for name, given in FLAGS.items()}
        for contenders, key in ((here, "samples_per_cpu_second"), (real, "samples_per_second")):
            out = arguments.out / f"{key}.json" if arguments.out else None
            report(interleaved(contenders, arguments.rounds), "neither", key, out)


if __name__ == "__main__":
    main()
