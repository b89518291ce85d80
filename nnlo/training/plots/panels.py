"""The panels of one training: loss, metrics, staleness, speed and votes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from nnlo.training.plots.marks import (
    choose_scale,
    explain,
    from_zero,
    head,
    note,
    plot,
    shade,
    stack,
    thin,
    whole_numbers,
)
from nnlo.training.plots.series import (
    Axis,
    Curve,
    History,
    best,
    curve,
    delay_map,
    mean_delay,
    measured,
    metric_names,
    overall_rate,
    pair,
    title_of,
    total_delays,
    usages,
    worker_rates,
)
from nnlo.training.plots.style import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY_WORKERS = 16
"""More than so many are not drawn one by one."""

MOST_NAMED = 9
"""Of more levels than that, some alone are named."""


def draw_figure(panel: Axes, history: History, name: str, axis: Axis) -> None:
    """A loss or metric: training solid, validation dashed with its best, the training set at epochs' ends dotted."""
    trained, validated = pair(history, name, axis)
    whole = measured(history, name, axis)
    plot(panel, trained, COLORS[0], label=f"{'mean while ' if whole.known else ''}training  {last(trained)}")
    plot(panel, whole, COLORS[3], ":", label=f"training set at epoch's end  {last(whole)}")
    plot(panel, validated, COLORS[1], "--", label=f"validation  {last(validated)}{best_text(validated)}")
    if not any(one.known for one in (trained, validated, whole)):
        note(panel, "no finite value")
    choose_scale(panel, (trained, validated, whole))
    head(panel, title_of(name))


def draw_metrics(panel: Axes, history: History, axis: Axis, only: str | None = None) -> None:
    """All metrics, or one; those from 0 to 1 on the left axis, and others, if there are both, on one at the right."""
    names = [name for name in metric_names(history) if only in (None, name)]
    if len(names) == 1:
        draw_figure(panel, history, names[0], axis)
        return
    if not names:
        draw_rate(panel, history, axis)
        return
    curves = {name: (*pair(history, name, axis), measured(history, name, axis)) for name in names}
    large = [name for name, three in curves.items() if any(abs(value) > 1 for one in three for value in one.known)]
    right = panel.twinx() if 0 < len(large) < len(curves) else None
    for (name, three), color in zip(curves.items(), itertools.cycle(COLORS), strict=False):
        draw_metric(right if right and name in large else panel, three, color)
    head(panel, "Metrics", right)
    dotted = any(whole.known for *_, whole in curves.values())
    explain(right or panel, f"dashed: validation{', dotted: whole training set' if dotted else ''}")
    if right:
        right.grid(False)
        right.spines["right"].set_visible(True)
        right.set_ylabel(", ".join(large))


def draw_metric(panel: Axes, three: tuple[Curve, Curve, Curve], color: str) -> None:
    """Training, validation and training set of one metric among several: one color, one line of the legend."""
    trained, validated, whole = three
    values = " / ".join(last(one) for one in three if one.known)
    plot(panel, trained, color, label=f"{trained.name}  {values}")
    plot(panel, validated, color, "--", label=None if trained.known else f"{validated.name}  {values}")
    if trained.known and validated.known:
        panel.lines[-1].set_label("_" + validated.name)
    plot(panel, whole, color, ":", label="_" + whole.name)


def draw_rate(panel: Axes, history: History, axis: Axis) -> None:
    rate = curve(history, "lr", lambda entry: entry["lr"], axis)
    plot(panel, rate, COLORS[0], label=f"learning rate  {last(rate, 'g')}")
    from_zero(panel)
    head(panel, "Learning rate")


def draw_staleness(panel: Axes, history: History, axis: Axis) -> None:
    """Its mean over each epoch's updates, on a map of how many had which; the darker, the more."""
    mean = curve(history, "mean", lambda entry: entry["staleness"]["mean"], axis)
    places, shares = delay_map(history, axis)
    explain(panel, "steps of the master while an update was computed")
    if not mean.known:
        note(panel, "no update was applied")
    elif max(mean.known) == 0:
        note(panel, "none: each update was computed\nfrom the newest weights")
    if len(shares) > 1:
        shade(panel, places, shares)
    label = f"mean {mean_delay(total_delays(history['epochs'])):.3g}, largest {len(shares) - 1}"
    plot(panel, mean, COLORS[1], label=label if len(shares) > 1 else "_mean")
    panel.yaxis.set_major_locator(whole_numbers())
    panel.set_ylim(-0.5, max(1.5, 1.35 * len(shares) - 0.5))
    head(panel, "Staleness")


def draw_speed(panel: Axes, history: History, axis: Axis) -> None:
    """All workers together, and each of them, as long as they can be told apart."""
    from matplotlib.ticker import EngFormatter

    workers = worker_rates(history, axis)
    for one in workers if 1 < len(workers) <= MANY_WORKERS else ():
        thin(panel, one, "each worker" if one is workers[0] else None)
    total = curve(history, "all", lambda entry: entry["samples_per_second"], axis)
    who = f"all {len(workers)} workers: " if len(workers) > 1 else ""
    plot(panel, total, COLORS[2], label=f"{who}mean {overall_rate(history):,.0f}")
    panel.yaxis.set_major_formatter(EngFormatter(sep=""))
    from_zero(panel)
    head(panel, "Samples per second")


def draw_usages(panel: Axes, history: History, axis: Axis) -> None:
    """How votes went, epoch by epoch; of many levels some are named."""
    from matplotlib.ticker import PercentFormatter

    counted = usages(history, axis)
    stack(panel, counted.places, dict(zip(counted.levels, counted.shares, strict=True)))
    panel.grid(False)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
    panel.set_title("Levels voted")
    handles, labels = panel.get_legend_handles_labels()
    step = -(-(len(labels) - 1) // (MOST_NAMED - 1)) or 1
    panel.legend(
        handles[::step], labels[::step], loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=MOST_NAMED, borderpad=0.2,
        handlelength=1.0, columnspacing=1.2,
    )  # fmt: skip


def last(curve: Curve, spec: str = "#.4g") -> str:
    return format(curve.known[-1], spec) if curve.known else ""


def best_text(curve: Curve) -> str:
    """The best value, where it is not the last."""
    found = best(curve)
    if found is None or found[1] == curve.known[-1]:
        return ""
    return f"  (best {found[1]:#.4g})"
