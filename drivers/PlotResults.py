"""PlotResults: draw the runs of experiments anew, any of them, of several experiments together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

import yaml

import nnlo
from nnlo.cli import Command, build, run
from nnlo.errors import DataError, OptionsError
from nnlo.experiments.figures import draw_metric
from nnlo.experiments.results import AXES, Result, read_result
from nnlo.experiments.sweep import slug
from nnlo.launcher import check_single
from nnlo.options import Options, option
from nnlo.training.plots.style import check_picture

PROG = "PlotResults"
DESCRIPTION = "Draw runs of experiments beside one another: PlotResults FOLDER... --metric val_acc --x seconds"


@dataclass(frozen=True, kw_only=True)
class Plot(Options):
    """Plot"""

    folders: tuple[str, ...] = option((), help="folders of experiments", metavar="FOLDER", positional=True)
    metric: str = option("val_acc", help="what is drawn", metavar="NAME")
    x: tuple[str, ...] = option(
        (), help="what it is drawn along: epochs, rounds, seconds, bytes (default all)", metavar="NAME,..."
    )
    only: tuple[str, ...] = option((), help="runs whose names begin with one of these", metavar="NAME,...")
    output: Path | None = option(None, help="the picture, .png, .pdf or .svg (default METRIC.png)", metavar="PICTURE")
    overwrite: bool = option(False, help="replace a file of that name")

    @property
    def axes(self) -> list[str]:
        """By their names in a result."""
        return [name for name, called in AXES.items() if not self.x or called in self.x]

    @property
    def picture(self) -> Path:
        return self.output or Path(f"{self.metric}.png")

    def check(self) -> None:
        if not self.folders:
            raise OptionsError(f"name the folder of an experiment: {PROG} experiments/2026-01-31_gossip")
        if unknown := [name for name in self.x if name not in AXES.values()]:
            raise OptionsError(f"--x: unknown value {unknown[0]!r}: choose of {', '.join(AXES.values())}")


def command() -> Command:
    return Command(PROG, DESCRIPTION, [Plot], version=nnlo.__version__)


def read(options: Plot) -> list[Result]:
    """The runs that are asked for, each with its experiment in its name where there are several."""
    found: list[Result] = []
    for folder in map(Path, options.folders):
        paths = in_order(folder)
        if not paths:
            raise OptionsError(f"{folder}: holds no results of runs: name the folder that ExperimentDriver made")
        for result in map(read_result, paths):
            if not options.only or result.name.startswith(options.only):
                told = f"{folder.name}: {result.name}" if len(options.folders) > 1 else result.name
                found.append(Result(**{**vars(result), "name": told}))
    if not found:
        raise OptionsError(f"--only {','.join(options.only)}: no run has such a name")
    known = list(dict.fromkeys(name for one in found for name in one.metrics()))
    if options.metric not in known:
        raise OptionsError(f"--metric {options.metric}: the runs have {', '.join(known)}: choose one of them")
    return found


def in_order(folder: Path) -> list[Path]:
    """The files of its runs, in the order of the experiment."""
    paths = sorted((folder / "runs").glob("*.json"))
    try:
        runs = yaml.safe_load((folder / "experiment.yaml").read_text(encoding="utf-8"))["runs"]
        places = {f"{slug(one['name'])}.json": place for place, one in enumerate(runs)}
    except (OSError, yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError):
        return paths
    return sorted(paths, key=lambda path: places.get(path.name, len(places)))


def plot_results(argv: Sequence[str] | None = None) -> None:
    check_single()
    options = build(Plot, command().parse(argv))
    check_picture(options.picture)
    if options.picture.exists() and not options.overwrite:
        raise OptionsError(f"--output {options.picture}: already there: name another, or add --overwrite")
    title = ", ".join(Path(folder).name for folder in options.folders)
    try:
        draw_metric(options.picture, title, read(options), options.metric, options.axes)
    except OSError as error:
        raise DataError(f"--output {options.picture}: cannot be written: {error.strerror}") from None
    print(options.picture)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    run(PROG, partial(plot_results, argv))


if __name__ == "__main__":
    main()
