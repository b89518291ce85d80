"""What it gains to prune: real searches of the digits with as many epochs in all, with and without it.

Four parameters at random, the same points with and without: with a pruner more of them, until as many epochs are spent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

from launch import said
from paired import line

from nnlo.data.prepare import prepare
from nnlo.optimize.record import read_record
from nnlo.optimize.trial import Status, Trial

RANKS, BLOCK_SIZE = 5, 2
PRUNERS = ("none", "asha:reduction=3")
MORE = 4
"""So many times as many trials begin where most of them are pruned."""
SPACE = """
lr: {low: 1.0e-4, high: 1.0e-1, log: true}
kernel_size: {type: integer, low: 2, high: 7}
dropout: {low: 0.0, high: 0.8}
dense: {type: integer, low: 10, high: 200, log: true}
"""

#: The second of the search at which each epoch ended, and its figure, in the order of time.
Epochs = list[tuple[float, float]]


def epochs_of(lines: Iterable[Trial]) -> Epochs:
    """By a record, which says what a trial has behind it whenever it begins, rests or ends.

    Epochs of a trial between two of its lines are evenly spread over what it took. One that goes on does so as soon as
    something ended that made it one of the best, or a block free.
    """
    found: Epochs = []
    began: dict[int, float] = {}
    before: dict[int, Trial] = {}
    now = 0.0
    for trial in lines:
        last = before.get(trial.number)
        new = trial.figures[last.epochs if last else 0 :]
        before[trial.number] = trial
        if trial.status is Status.RUNNING:
            now = began[trial.number] = max(now, trial.began)
        elif new:
            seconds = trial.seconds - (last.seconds if last else 0.0)
            found += [(began[trial.number] + seconds * (k / len(new)), value) for k, value in enumerate(new, 1)]
            now = max(now, found[-1][0])
    return sorted(found)


def best_so_far(epochs: Epochs) -> Epochs:
    return [*zip((end for end, _ in epochs), accumulate((figure for _, figure in epochs), max), strict=True)]


def compared(searches: dict[str, Epochs]) -> dict[str, dict[str, float]]:
    """Each cut to as many epochs as the shortest has; `seconds` to the accuracy that all of them reach."""
    budget = min(map(len, searches.values()))
    curves = {name: best_so_far(epochs[:budget]) for name, epochs in searches.items()}
    common = min(curve[-1][1] for curve in curves.values())
    return {
        name: {
            "epochs": budget,
            "best": curve[-1][1],
            "best_after": next(end for end, figure in curve if figure == curve[-1][1]),
            "common": common,
            "common_after": next(end for end, figure in curve if figure >= common),
            "seconds": curve[-1][0],
        }
        for name, curve in curves.items()
    }


def searched(folder: Path, pruner: str, trials: int, epochs: int, seed: int) -> Epochs:
    data = prepare("digits", folder)
    space, output = folder / "space.yaml", folder / f"{pruner}-{seed}"
    space.write_text(SPACE)
    command = ["mpirun", "-np", str(RANKS), "OptimizationDriver", "--block-size", str(BLOCK_SIZE), "--model", "mnist"]
    lists = ["--train-data", str(data.train_list), "--val-data", str(data.test_list)]
    what = ["--hyper-opt", "random", "--search-space", str(space), "--random-state", str(seed), "--pruner", pruner]
    how = ["--figure-of-merit", "val_acc,max", "--num-iterations", str(trials), "--epochs", str(epochs)]
    said([*command, *lists, *what, *how, "--output", str(output)])
    record = read_record(output / "mnist_search")
    assert record is not None
    return epochs_of(record.lines)


def measure(rounds: int, trials: int, epochs: int) -> list[dict[str, dict[str, float]]]:
    """For each round, and another seed, what each search came to."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(rounds):
            numbers = {pruner: trials if pruner == "none" else MORE * trials for pruner in PRUNERS}
            searches = {one: searched(Path(folder), one, number, epochs, turn) for one, number in numbers.items()}
            found.append(compared(searches))
            for name, figures in found[-1].items():
                print(f"round {turn + 1}/{rounds}  {name:20} {line(figures)}", flush=True)
    return found


def table(rounds: Sequence[dict[str, dict[str, Any]]]) -> str:
    lines = [
        "| --pruner | epochs | seconds | best val_acc | after, s | the accuracy that both reach, after, s |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name in rounds[0]:
        middle = {key: median(one[name][key] for one in rounds) for key in rounds[0][name]}
        shown = "{epochs:.0f} | {seconds:.1f} | {best:.3f} | {best_after:.1f} | {common_after:.1f}".format(**middle)
        lines.append(f"| {name} | {shown} |")
    return "\n".join(lines)
