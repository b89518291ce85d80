"""Samples/s of --mode allreduce with two workers, by the size of the parts that are reduced during the backward pass.

    python benchmarks/buckets.py --source ../shared/data/mnist --rounds 5

A network of 22 thousand parameters, and one of 10 million, on the first of MNIST's files; 0 reduces the gradient whole,
afterwards.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

from paired import interleaved, report
from train import nnlo

from nnlo.data.lists import read_list
from nnlo.data.prepare import prepare

#: Flags, epochs, and sizes in MiB.
CASES = {
    "mnist": (["--model", "mnist"], 8, ("0", "0.03", "1")),
    "mlp": (["--model", "mlp", "--model-params", "hidden=2048,layers=3"], 2, ("0", "0.25", "1", "4", "16")),
}


def first_file(train_list: Path, folder: str) -> Path:
    """A list of the first file alone."""
    found = Path(folder) / "first.list"
    found.write_text(read_list(train_list, "--train-data")[0])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder of MNIST's IDX files")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    train_list = prepare("mnist", source=arguments.source).train_list
    with tempfile.TemporaryDirectory() as folder:
        files = first_file(train_list, folder)
        for model, (flags, epochs, sizes) in CASES.items():
            names = {f"{model}, {size} MiB": ["--mode", "allreduce", "--bucket-mib", size, *flags] for size in sizes}
            contenders = {name: partial(nnlo, files, 2, epochs, given) for name, given in names.items()}
            found = interleaved(contenders, arguments.rounds)
            report(found, f"{model}, 0 MiB", "samples_per_second", None)


if __name__ == "__main__":
    main()
