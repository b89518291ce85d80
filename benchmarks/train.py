"""Samples/s of a master and two workers next to two plain one-thread loops side by side.

    python benchmarks/train.py --source ../shared/data/mnist --rounds 5 --out train.json

Needs MNIST's IDX files in --source, or MNIST where `GetData mnist` puts it; and `mpirun` on the path.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from paired import interleaved, report

from nnlo.data.prepare import prepare

HERE = Path(__file__).parent
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def plain_loops(train_list: Path, count: int, epochs: int) -> dict[str, float]:
    """`count` loops at a time, one thread each; their samples/s together."""
    command = [sys.executable, str(HERE / "plain_loop.py"), "--train-data", str(train_list), "--epochs", str(epochs)]
    loops = [subprocess.Popen(command, env=ONE_THREAD, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    outputs = [loop.communicate(timeout=600)[0] for loop in loops]
    return {"samples_per_second": sum(json.loads(output)["samples_per_second"] for output in outputs)}


def nnlo(train_list: Path, workers: int, epochs: int, flags: list[str]) -> dict[str, float]:
    """Samples/s by the training clock; validation is left out, as in the plain loops."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mpirun", "-np", str(workers + 1), "TrainingDriver", "--train-data", str(train_list)]
        settings = ["--optimizer", "sgd", "--lr", "0.01", "--epochs", str(epochs), "--output", folder]
        subprocess.run([*command, *settings, *flags], env=ONE_THREAD, check=True, capture_output=True, timeout=600)
        history = json.loads(next(Path(folder).glob("*_history.json")).read_text())
    busy = sum(rank["busy_seconds"] for epoch in history["epochs"] for rank in epoch["ranks"].values())
    samples = history["epochs"][-1]["samples"]
    return {
        "samples_per_second": samples / history["seconds"],
        "busy": busy / workers / history["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder of MNIST's IDX files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    arguments = parser.parse_args()
    train_list = prepare("mnist", source=arguments.source).train_list
    measure = partial(nnlo, train_list, epochs=arguments.epochs)
    base = "two plain loops"
    contenders = {
        base: partial(plain_loops, train_list, 2, arguments.epochs),
        "one plain loop": partial(plain_loops, train_list, 1, arguments.epochs),
        "nnlo, 2 workers": partial(measure, 2, flags=[]),
        "nnlo, 2 workers, sync-every 4": partial(measure, 2, flags=["--sync-every", "4"]),
        "nnlo, 2 workers, synchronous": partial(measure, 2, flags=["--synchronous"]),
    }
    report(interleaved(contenders, arguments.rounds), base, "samples_per_second", arguments.out)


if __name__ == "__main__":
    main()
