"""The page of a run, put together from its history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nnlo.training.atomic import replacing
from nnlo.training.plots.series import History
from nnlo.training.report import configuration, content, figures, load, tables


def write_report(path: Path, history: History) -> None:
    """Write the page to `path`. Raises DataError where it cannot be written."""
    with replacing(path) as scratch:
        scratch.write_text(page(history), encoding="utf-8")


def page(history: History) -> str:
    """HTML that holds all that it shows; every text of the history is escaped."""
    loader = PackageLoader("nnlo.training", "report")
    html = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return html.get_template("report.html").render(**content_of(history))


def content_of(history: History) -> dict[str, Any]:
    """What the template shows, by the names that it knows."""
    chosen, left = configuration.options(history)
    return {
        "head": content.headline(history),
        "tiles": content.tiles(history),
        "learning": figures.learning(history),
        "staleness": figures.staleness(history),
        "speed": figures.speed(history),
        "load": load.load(history),
        "workers": tables.worker_table(history),
        "shares": tables.shares(history),
        "traffic": tables.traffic(history),
        "epochs": tables.epochs(history),
        "chosen": chosen,
        "left": left,
        "circumstances": configuration.circumstances(history),
        "seeds": configuration.seeds(history),
        "bar": tables.BAR,
    }
