"""What compression and rare exchanges gain where the network is slow: a master and two workers, each on a host.

    python benchmarks/bandwidth.py --rounds 5 --out .
    python benchmarks/bandwidth.py --parts mlp --rates 100mbit --only "sign votes, 1 bit"

The hosts are network namespaces (`hosts.py`) whose links are held to each of the rates in turn, so that all that ranks
tell one another crosses a link. It wants Linux and root.

mlp: one epoch of a network of 10 million parameters on 1,600 random samples. An exchange is all that stands between a
worker's gradient and its next one, by the timeline: encoding, sending, the master's step, decoding. There is one after
every batch, but for DiLoCo. The epoch goes from the beginning of the first gradient to the last answer: start-up and
the first weights have no part in it.

mnist: the small convolutional network, without dropout, on MNIST until a validation reaches 97 %, four times an epoch,
for three epochs at most. The seconds are those of the training clock when the weights that were validated were there.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from bandwidth_report import BASE, Everything, draw, table
from hosts import Hosts, missing
from launch import said
from paired import interleaved
from workloads import WORKLOADS

from nnlo.data.prepare import prepare

RANKS = 3
SOURCE = Path(__file__).parents[2] / "shared" / "data" / "mnist"
TARGET = 0.97
QUESTION = 1000
"""Bytes: whoever sends no more sends no update."""

MLP = replace(WORKLOADS["mlp"], samples=1_600, epochs=1)
MNIST = f"--model mnist --model-params dropout=0 --epochs 3 --validate-every 150 --target-metric val_acc,>=,{TARGET}"
SGD = "--optimizer sgd --lr 0.01"
DILOCO = "--mode local --worker-optimizer adamw --outer-lr 0.7 --outer-momentum 0.9 --nesterov-outer --sync-every"

#: Flags of `TrainingDriver`: of the same plain steps for all that have them.
EXCHANGES = {
    BASE: SGD,
    "dense, --pipeline": f"{SGD} --pipeline",
    "dense, --synchronous": f"{SGD} --synchronous",
    "dense, allreduce": f"--mode allreduce {SGD}",
    "fp16, both ways": f"{SGD} --compress fp16 --compress-down fp16",
    "topk 1 %, both ways": f"{SGD} --compress topk:ratio=0.01 --compress-down topk:ratio=0.01",
    "sign codec, both ways": f"{SGD} --compress sign --compress-down sign",
    "sign votes, 1 bit": "--mode sign --zero plus",
    "sign votes, 1 bit, among workers": "--mode sign --zero plus --exchange collective",
    "sign votes, 2 bits": "--mode sign",
    "binned votes, 3 bits": "--mode vote --rand-zero",
    "powersgd, allreduce": f"--mode allreduce --compress powersgd {SGD}",
    "DiLoCo, every 4 batches": f"{DILOCO} 4",
}
#: The same for MNIST, with the model's Adam where they do not say otherwise.
TRAININGS = {
    BASE: "",
    "dense, allreduce": "--mode allreduce",
    "fp16, both ways": "--compress fp16 --compress-down fp16",
    "topk 1 %, both ways": "--compress topk:ratio=0.01 --compress-down topk:ratio=0.01",
    "sign codec, both ways": "--compress sign --compress-down sign",
    "sign votes, 1 bit": "--mode sign --zero plus --vote-momentum 0.9",
    "binned votes, 3 bits": "--mode vote --rand-zero",
    "powersgd, allreduce": "--mode allreduce --compress powersgd",
    "DiLoCo, every 16 batches": f"{DILOCO} 16",
}

Run = Callable[[str], dict[str, float]]


@contextmanager
def trained(hosts: Hosts, flags: list[str]) -> Iterator[Path]:
    """The folder of what a training leaves, with "run" as its name."""
    with tempfile.TemporaryDirectory() as folder:
        files = ["--output", folder, "--trial-name", "run", "--no-save-model"]
        said(hosts.mpirun(RANKS, ["TrainingDriver", *files, *flags]))
        yield Path(folder)


def exchange(hosts: Hosts, listed: Path, flags: str) -> dict[str, float]:
    with trained(hosts, ["--train-data", str(listed), "--timeline", *MLP.flags, *flags.split()]) as folder:
        return timed(json.loads((folder / "mlp_run_timeline.json").read_text())["traceEvents"])


def timed(events: list[dict[str, Any]]) -> dict[str, float]:
    """The median exchange and the whole epoch, in seconds, and the megabytes of an update."""
    gradients = [event for event in events if event["name"] == "compute"]
    updates = [event for event in events if event["name"] == "exchange" and event["args"]["bytes"] > QUESTION]
    workers = {event["pid"] for event in gradients}
    each = [gap for rank in workers for gap in gaps([one for one in gradients + updates if one["pid"] == rank])]
    epoch = max(map(end, updates)) - min(event["ts"] for event in gradients)
    size = statistics.median(event["args"]["bytes"] for event in updates)
    return {"exchange": 1e-6 * statistics.median(each), "epoch": 1e-6 * epoch, "megabytes": 1e-6 * size}


def gaps(events: list[dict[str, Any]]) -> list[float]:
    """Between two gradients of one worker with an update in between; of `events`, its gradients and updates."""
    found = sorted(events, key=lambda event: float(event["ts"]))
    steps = zip(pairwise(found), found[2:], strict=False)
    return [
        after["ts"] - end(before)
        for (before, between), after in steps
        if [one["name"] for one in (before, between, after)] == ["compute", "exchange", "compute"]
    ]


def end(event: dict[str, Any]) -> float:
    return float(event["ts"] + event["dur"])


def training(hosts: Hosts, data: list[str], flags: str) -> dict[str, float]:
    with trained(hosts, [*data, *MNIST.split(), *flags.split()]) as folder:
        return reached(json.loads((folder / "mnist_run_history.json").read_text())["validations"])


def reached(validations: list[dict[str, float]]) -> dict[str, float]:
    """When the target was reached, inf where it was not, and what an epoch takes, in seconds."""
    when = (one["seconds"] for one in validations if one["val_acc"] >= TARGET)
    last = validations[-1]
    return {"target": next(when, math.inf), "epoch": last["seconds"] / last["epoch"]}


def parts(wanted: list[str], source: Path, hosts: Hosts, folder: Path) -> Iterator[tuple[str, dict[str, str], Run]]:
    """The name, the contenders and what runs one, with the data written to `folder`."""
    if "mlp" in wanted:
        yield "mlp", EXCHANGES, partial(exchange, hosts, MLP.write(folder))
    if "mnist" in wanted and not source.is_dir():
        print(f"no mnist: --source {source} is no folder")
    elif "mnist" in wanted:
        lists = prepare("mnist", folder, source)
        yield "mnist", TRAININGS, partial(training, hosts, [
            "--train-data", str(lists.train_list), "--val-data", str(lists.test_list)
        ])  # fmt: skip


def measure(arguments: argparse.Namespace, hosts: Hosts, folder: Path) -> None:
    everything: Everything = {}
    for part, flags, run in list(parts(arguments.parts, arguments.source, hosts, folder)):
        everything[part] = {}
        chosen = [name for name in flags if not arguments.only or name in (*arguments.only, BASE)]
        for rate in arguments.rates:
            hosts.limit(rate)
            print(f"\n{part}, {rate}", flush=True)
            everything[part][rate] = interleaved({name: partial(run, flags[name]) for name in chosen}, arguments.rounds)
            if arguments.out is not None:
                (arguments.out / "bandwidth.json").write_text(json.dumps(everything, indent=1))
                draw(everything, arguments.out / "bandwidth.png")
    for part, by_rate in everything.items():
        print(f"\n{part}\n\n{table(part, by_rate)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rates", nargs="+", default=["100mbit", "1gbit"], help="of each host's link, as tc says it")
    parser.add_argument("--parts", nargs="+", choices=("mlp", "mnist"), default=["mlp", "mnist"])
    names = list({**EXCHANGES, **TRAININGS})
    parser.add_argument("--only", nargs="+", default=[], choices=names, metavar="NAME", help=f"beside {BASE}")
    parser.add_argument("--source", type=Path, default=SOURCE, help="folder of MNIST's IDX files")
    parser.add_argument("--out", type=Path, help="folder for bandwidth.json and bandwidth.png")
    arguments = parser.parse_args()
    if reason := missing():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as folder, Hosts(RANKS) as hosts:
        measure(arguments, hosts, Path(folder))


if __name__ == "__main__":
    main()
