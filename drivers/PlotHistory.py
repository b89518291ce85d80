"""PlotHistory: draw the curves of runs from the histories that they left, or make a report of one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import nnlo
from nnlo.cli import Command, build, run
from nnlo.errors import OptionsError
from nnlo.launcher import check_single
from nnlo.options import Options, option
from nnlo.training.atomic import replacing
from nnlo.training.plots.curves import draw
from nnlo.training.plots.overlay import draw_overlay
from nnlo.training.plots.series import ALONG, metric_names
from nnlo.training.plots.style import check_picture
from nnlo.training.report import write_report
from nnlo.training.report.text import plural
from nnlo.training.saved import labels, read_history

PROG = "PlotHistory"
DESCRIPTION = "Draw the curves of a run, or of several beside one another: PlotHistory a_history.json b_history.json"


@dataclass(frozen=True, kw_only=True)
class Plot(Options):
    """Plot"""

    files: tuple[str, ...] = option(
        (), help="the histories of runs, files ..._history.json", metavar="FILE", positional=True
    )
    output: Path | None = option(
        None,
        help="the picture to write, .png, .pdf or .svg (default curves.png; with --report none)",
        metavar="PICTURE",
    )
    report: Path | None = option(None, help="the report of one run to write, an HTML page", metavar="PAGE")
    metric: str | None = option(None, help="the metric to draw beside the loss, or loss for that alone", metavar="NAME")
    x: str = option("epochs", help="what the curves run along", choices=lambda: ALONG)
    labels: tuple[str, ...] = option((), help="names of the runs (default their trials)", metavar="NAME,...")
    overwrite: bool = option(False, help="replace files of the same names")

    @property
    def picture(self) -> Path | None:
        return self.output or (None if self.report else Path("curves.png"))

    def check(self) -> None:
        if not self.files:
            raise OptionsError(f"name the history of a run: {PROG} FOLDER/..._history.json")
        if self.labels and len(self.labels) != len(self.files):
            raise OptionsError(
                f"--labels has {plural(len(self.labels), 'name')} for {plural(len(self.files), 'file')}: name each"
            )
        if len(set(self.labels)) < len(self.labels):
            raise OptionsError("--labels has a name twice: give each run a name of its own")
        if self.report and len(self.files) > 1:
            raise OptionsError(f"--report is of one run, not of {len(self.files)}: name one file")


def command() -> Command:
    return Command(PROG, DESCRIPTION, [Plot], version=nnlo.__version__)


def read(options: Plot) -> dict[str, Mapping[str, Any]]:
    """The histories by their labels. Raises OptionsError for a metric that one of them lacks."""
    paths = [Path(name) for name in options.files]
    for path in paths:
        if paths.count(path) > 1:
            raise OptionsError(f"{path} is named twice: name each file once")
    histories = {path: read_history(path) for path in paths}
    for path, history in histories.items():
        names = ["loss", *metric_names(history)]
        if options.metric and options.metric not in names:
            raise OptionsError(f"--metric {options.metric}: {path} has {', '.join(names)}: choose one of them")
    return dict(zip(options.labels or labels(histories), histories.values(), strict=True))


def check_targets(options: Plot) -> None:
    """Raises OptionsError where a file that is there would be replaced, or no picture can be drawn."""
    if options.picture:
        check_picture(options.picture)
    if options.report and options.report == options.picture:
        raise OptionsError(f"--report {options.report} is the --output as well: give them names of their own")
    for flag, path in (("--output", options.picture), ("--report", options.report)):
        if path and path in map(Path, options.files):
            raise OptionsError(f"{flag} {path} is the history itself: name another file")
        if path and os.path.lexists(path) and not options.overwrite:
            raise OptionsError(f"{flag} {path}: already there: name another, or add --overwrite")


def write_picture(path: Path, runs: Mapping[str, Mapping[str, Any]], options: Plot) -> None:
    with replacing(path) as scratch:
        if len(runs) > 1:
            draw_overlay(runs, scratch, options.x, options.metric)
        else:
            (history,) = runs.values()
            draw(history, scratch, options.x, options.metric, "".join(options.labels))


def plot_history(argv: Sequence[str] | None = None) -> None:
    check_single()
    options = build(Plot, command().parse(argv))
    check_targets(options)
    runs = read(options)
    if options.picture:
        write_picture(options.picture, runs, options)
        print(options.picture)
    if options.report:
        write_report(options.report, next(iter(runs.values())))
        print(options.report)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    run(PROG, lambda: plot_history(argv))


if __name__ == "__main__":
    main()
