"""How soon searchers come to the minima of functions, and how idle that leaves the blocks; what pruning gains.

    python benchmarks/optimize.py --out optimize.json
    python benchmarks/optimize.py --branin 0 --hartmann6 0 --real

nnlo's searchers look for the minima on 2, 4 and 8 blocks on the virtual clock, scikit-optimize and Optuna (where it is
installed) alone. A minimum counts as reached within 1 % of the way down to it from the median of the function at random
points. With --real whole searches of the digits follow, with and without a pruner.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median
from typing import Any

import pruning
from functions import FUNCTIONS
from launch import ONE_THREAD
from searches import ALONE, OURS, figures, on_blocks

BUDGETS = {"branin": 60, "hartmann6": 120}
BLOCKS = (2, 4, 8)
Save = Callable[[list[dict[str, Any]], list[dict[str, Any]]], None]
HEAD = "| | blocks | evaluations | seconds | reached | gap left | idle | s of a core for the last point (longest) |"


@dataclass(frozen=True)
class Run:
    """One search: by nnlo's `searcher` on so many blocks, or by another one alone, on none."""

    function: str
    searcher: str
    blocks: int
    seed: int
    budget: int

    def __str__(self) -> str:
        return f"{self.searcher}, {self.blocks} blocks" if self.blocks else f"{self.searcher} alone"

    def measure(self) -> dict[str, Any]:
        function = FUNCTIONS[self.function]
        if self.blocks:
            found = on_blocks(self.searcher, self.blocks, function, self.seed, self.budget)
        else:
            found = ALONE[self.searcher](function, self.seed, self.budget)
        return {**vars(self), **figures(function, found)}


def runs(budgets: dict[str, int], blocks: Sequence[int], seeds: int) -> list[Run]:
    """All searches: each searcher's turn comes once for a seed."""
    contenders = [*((name, count) for name in OURS for count in blocks), *((name, 0) for name in ALONE)]
    wanted = [(function, budget) for function, budget in budgets.items() if budget]
    return [
        Run(function, *contender, seed, budget)
        for function, budget in wanted
        for seed in range(seeds)
        for contender in contenders
    ]


def measure_all(wanted: Sequence[Run], jobs: int, save: Save) -> list[dict[str, Any]]:
    """`jobs` at a time, each in a process of one thread; all so far are saved as soon as another one is done."""
    os.environ.update(ONE_THREAD)
    found: list[dict[str, Any]] = []
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for run, row in zip(wanted, pool.map(Run.measure, wanted), strict=True):
            reached = "not reached" if row["evaluations"] is None else f"reached after {row['evaluations']}"
            print(f"{run.function:10} seed {run.seed}  {run!s:20} {reached} of {run.budget}", flush=True)
            found.append(row)
            save(found, [])
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each searcher and number of blocks."""
    lines = [HEAD, "| --- |" + " --- |" * HEAD.count(" | ")]
    for name, blocks in dict.fromkeys((row["searcher"], row["blocks"]) for row in rows):
        own = [row for row in rows if (row["searcher"], row["blocks"]) == (name, blocks)]
        lines.append(f"| {name} | {blocks or 'alone'} | {' | '.join(cells(own))} |")
    return "\n".join(lines)


def cells(own: Sequence[dict[str, Any]]) -> list[str]:
    """What the seeds of one searcher came to: medians, of idle time the mean."""
    counts, seconds = (middle([row[key] for row in own]) for key in ("evaluations", "seconds"))
    return [
        f"more than {own[0]['budget']}" if counts == math.inf else f"{counts:.0f}",
        "" if seconds == math.inf else f"{seconds:.1f}",
        f"{sum(row['evaluations'] is not None for row in own)} of {len(own)}",
        f"{median(min(row['gaps']) for row in own):.1%}",
        f"{mean(row['idle'] for row in own):.2%}" if own[0]["blocks"] else "",
        f"{median(row['asks'][-1] for row in own):.2f} ({max(max(row['asks']) for row in own):.2f})",
    ]


def middle(values: Sequence[float | None]) -> float:
    """The median; None is more than any."""
    return median(math.inf if value is None else value for value in values)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, budget in BUDGETS.items():
        help_text = f"evaluations of {FUNCTIONS[name].name} in a search; 0: none"
        parser.add_argument(f"--{name}", type=int, default=budget, metavar="N", help=help_text)
    parser.add_argument("--blocks", type=int, nargs="+", default=BLOCKS, metavar="N")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="searches at a time")
    parser.add_argument("--real", action="store_true", help="also search the digits, with and without a pruner")
    parser.add_argument("--rounds", type=int, default=3, help="of --real")
    parser.add_argument("--trials", type=int, default=8, help="of --real without a pruner")
    parser.add_argument("--epochs", type=int, default=9, help="of --real")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    budgets = {name: getattr(arguments, name) for name in BUDGETS}
    save = partial(write, arguments.out)
    rows = measure_all(runs(budgets, arguments.blocks, arguments.seeds), arguments.jobs, save)
    real = pruning.measure(arguments.rounds, arguments.trials, arguments.epochs) if arguments.real else []
    save(rows, real)
    for name in dict.fromkeys(row["function"] for row in rows):
        own = [row for row in rows if row["function"] == name]
        print(f"\n{FUNCTIONS[name].name}, seeds 0 to {arguments.seeds - 1}\n\n{table(own)}")
    if rows and not find_spec("optuna"):
        print("\nOptuna is not installed: left out")
    if real:
        print(f"\n{pruning.table(real)}")


def write(path: Path | None, virtual: list[dict[str, Any]], real: list[dict[str, Any]]) -> None:
    if path is not None:
        path.write_text(json.dumps({"virtual": virtual, "real": real}, indent=1))


if __name__ == "__main__":
    main()
