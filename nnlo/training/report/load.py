"""The load of processes and GPUs over a run, as charts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnlo.training.plots.series import Axis, Curve, History, natural, time_unit
from nnlo.training.report import charts, text
from nnlo.training.report.figures import Chart
from nnlo.training.report.tables import host_of

FEW = 8
"""More lines than that become their mean and their range."""

POINTS = 240
"""Of a mean over time."""

Samples = Mapping[str, Any]
"""Lists of one length: "seconds", and a figure under each other name."""


def load(history: History) -> list[Chart]:
    """CPU and memory by rank, and the same of the GPUs; nothing where nobody sampled."""
    found: Mapping[str, Samples] = history.get("monitor") or {}
    ranks = {f"rank {rank}{' (master)' * (rank == '0')}": found[rank] for rank in sorted(found, key=natural)}
    panels = [
        ("CPU", curves_of(ranks, "cpu_percent"), "ranks"),
        ("Memory", curves_of(ranks, "memory_bytes"), "ranks"),
        ("GPU", gpu_curves(history, "percent"), "GPUs"),
        ("GPU memory", gpu_curves(history, "memory_bytes"), "GPUs"),
    ]
    return [load_chart(title, curves, noun) for title, curves, noun in panels if curves]


def curves_of(series: Mapping[str, Samples], key: str) -> list[Curve]:
    """A figure over seconds of each that knows it."""
    found = []
    for name, one in series.items():
        pairs = zip(one.get("seconds") or (), one.get(key) or (), strict=False)
        points = [(place, value) for place, value in pairs if text.known(place) and text.known(value)]
        if points:
            found.append(Curve(name, [place for place, _ in points], [value for _, value in points]))
    return found


def gpu_curves(history: History, kind: str) -> list[Curve]:
    """A figure of every GPU; of one that several ranks of a host see, as the first of them saw it."""
    found: dict[str, Curve] = {}
    for rank, one in sorted((history.get("monitor") or {}).items(), key=lambda item: natural(item[0])):
        for key in one:
            if gpu := re.fullmatch(f"gpu([^_]+)_{kind}", key):
                for curve in curves_of({f"GPU {gpu[1]} of {host_of(history, rank)}": one}, key):
                    found.setdefault(curve.name, curve)
    return list(found.values())


def load_chart(title: str, curves: Sequence[Curve], noun: str) -> Chart:
    """Lines in units that suit their values; `noun` is what there are many of."""
    largest = max(value for curve in curves for value in curve.values)
    name, unit = text.size_unit(largest) if title.lower().endswith("memory") else ("%", 1)
    seconds, time = time_unit(max(place for curve in curves for place in curve.places))
    axis, heading = Axis("seconds", seconds, time), f"{title}, {name}"
    fitting = [
        Curve(one.name, [at / seconds for at in one.places], [value / unit for value in one.values]) for one in curves
    ]
    if len(curves) > FEW:
        return mean_chart(heading, fitting, noun, axis)
    kinds = [(curve, f"own own{number}") for number, curve in enumerate(fitting)]
    legend = [(kind, curve.name) for curve, kind in kinds] if len(kinds) > 1 else ()
    return Chart(heading, charts.lines(kinds, f"{heading}, over {time}", True, axis), legend)


def mean_chart(heading: str, curves: Sequence[Curve], noun: str, axis: Axis) -> Chart:
    """The mean over all curves, within the area from their lowest to their highest."""
    mean, low, high = summary(curves)
    drawn = charts.lines([(mean, "training")], f"{heading}, over {axis.title}", True, axis, (low, high))
    return Chart(heading, drawn, [("training", f"mean of {len(curves)} {noun}"), ("band", "lowest to highest")])


def summary(curves: Sequence[Curve]) -> tuple[Curve, Curve, Curve]:
    """Mean, lowest and highest at times that all share; before and after its samples a curve stays as it is."""
    first, last = min(curve.places[0] for curve in curves), max(curve.places[-1] for curve in curves)
    times = np.linspace(first, last, POINTS)
    values = np.stack([np.interp(times, curve.places, curve.values) for curve in curves])
    rows = ("mean", values.mean(0)), ("lowest", values.min(0)), ("highest", values.max(0))
    mean, low, high = (Curve(name, times.tolist(), row.tolist()) for name, row in rows)
    return mean, low, high
