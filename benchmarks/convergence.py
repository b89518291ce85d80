"""What each mode reaches on MNIST with 2 to 16 workers after the same samples, and what it sends for that.

    python benchmarks/convergence.py --source ../shared/data/mnist --out convergence.json
    python benchmarks/convergence.py --quick
    python benchmarks/convergence.py --shapes --out shapes.json    # what papers show, for docs.pictures.modes

Workers are on the virtual clock, so that there may be more of them than cores, and the same seed gives the same
figures. The table takes about a quarter of an hour on a core of its own, and so do the shapes; with --quick either
takes a minute or two.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import shapes
from settings import BATCH, EPOCHS, SETTINGS, WORKERS
from trainings import train

from nnlo import H5Data
from nnlo.data.lists import read_list
from nnlo.data.prepare import Prepared, prepare

QUICK_FILES, QUICK_WORKERS = 4, (2, 4)
LINE = "{name:23}{workers:3} workers  {val_acc:.4f} {staleness:5.1f} late {bytes_a_sample:8,.1f} B/sample {wall:4.0f}s"


def measure(name: str, workers: int, lists: Prepared, quick: bool) -> dict[str, Any]:
    """What one training reached; `quick`: one epoch over a sixth of the samples."""
    began = time.perf_counter()
    files = read_list(lists.train_list, "--train-data")[: QUICK_FILES if quick else None]
    flags = SETTINGS[name](workers)
    epochs = 1 if quick else EPOCHS
    history = train(flags, workers, H5Data(BATCH), lists.test_list, epochs=epochs, train_list=files)
    return {"name": name, "workers": workers, "flags": flags, **figures(history), "wall": time.perf_counter() - began}


def figures(history: dict[str, Any]) -> dict[str, Any]:
    entries = history["epochs"]
    samples = entries[-1]["samples"]
    return {
        "samples": samples,
        "val_acc": entries[-1]["val_acc"],
        "staleness": entries[-1]["staleness"]["mean"],
        "bytes_a_sample": sum(entry["bytes_up"] + entry["bytes_down"] for entry in entries) / samples,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each mode, its accuracy, staleness and bytes side by side for each number of workers."""
    numbers = sorted({row["workers"] for row in rows})
    found = {(row["name"], row["workers"]): row for row in rows}
    lines = [
        "| mode | " + " | ".join(f"{number} workers" for number in numbers) + " | staleness | bytes a sample |",
        "| --- |" + " --- |" * (len(numbers) + 2),
    ]
    for name in dict.fromkeys(row["name"] for row in rows):
        own = [found[name, number] for number in numbers]
        accuracies = [f"{row['val_acc']:.3f}" for row in own]
        ranges = [span([row[key] for row in own]) for key in ("staleness", "bytes_a_sample")]
        lines.append(f"| {' | '.join([name, *accuracies, *ranges])} |")
    return "\n".join(lines)


def span(values: list[float]) -> str:
    """The least and the largest of some figures, where they are not the same."""
    least, most = f"{min(values):,.0f}", f"{max(values):,.0f}"
    return least if least == most else f"{least} to {most}"


def make_table(lists: Prepared, names: list[str], quick: bool, save: shapes.Save) -> None:
    """Print and `save` every training as soon as it is done, and print the table in the end."""
    rows: list[dict[str, Any]] = []
    for name in names:
        for workers in QUICK_WORKERS if quick else WORKERS:
            row = measure(name, workers, lists, quick)
            print(LINE.format(**row), flush=True)
            rows.append(row)
            save(rows)
    print(f"\n{table(rows)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder of MNIST's IDX files")
    parser.add_argument("--quick", action="store_true", help="a sixth of the data and few workers: a minute or two")
    parser.add_argument("--modes", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="NAME")
    parser.add_argument("--shapes", action="store_true", help="what papers show, instead of the table")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    arguments = parser.parse_args()
    lists = prepare("mnist", source=arguments.source)
    save = partial(write, arguments.out)
    if arguments.shapes:
        shapes.measure(lists, arguments.quick, save)
    else:
        make_table(lists, arguments.modes, arguments.quick, save)


def write(path: Path | None, rows: list[dict[str, Any]]) -> None:
    if path is not None:
        path.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
