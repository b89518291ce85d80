"""What a report says first of a run: its headline and its key figures."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from nnlo.training.plots.curves import mode_text
from nnlo.training.plots.series import (
    Curve,
    History,
    best,
    curve,
    mean_delay,
    measured,
    metric_names,
    number,
    overall_rate,
    pair,
    seconds_of,
    title_of,
    total_delays,
    worker_rates,
)
from nnlo.training.report import text


class Tile(NamedTuple):
    """A key figure: what it is, its value, and what to know beside it."""

    name: str
    value: str
    beside: str = ""


def headline(history: History) -> dict[str, str]:
    """Model, trial, how it ended and what ended it early, and one line of circumstances."""
    parts = [mode_text(history.get("arguments") or {}), workers_text(history), started(history)]
    outcome = str(history.get("outcome") or "unknown")
    kind = {"done": "good", "stopped": "plain"}.get(outcome, "bad")
    trial = str(history.get("trial") or "")
    details = "   ·   ".join(filter(None, parts))
    return {
        "model": str(history.get("model", "run")), "trial": trial, "outcome": outcome, "kind": kind,
        "reason": str(history.get("stop_reason") or ""), "details": details,
    }  # fmt: skip


def workers_text(history: History) -> str:
    ranks = history.get("ranks")
    if not isinstance(ranks, int) or ranks < 2:
        return ""
    hosts = len(set(map(str, history.get("hosts") or ())))
    return f"master and {text.plural(ranks - 1, 'worker')}" + (f" on {text.plural(hosts, 'host')}" if hosts else "")


def started(history: History) -> str:
    try:
        return f"{datetime.fromisoformat(str(history['started'])):%d %B %Y, %H:%M %Z}".lstrip("0").strip()
    except (KeyError, ValueError):
        return ""


def tiles(history: History) -> list[Tile]:
    names = ["loss", *metric_names(history)]
    figures = [tile for name in names for tile in figure_tiles(history, name)]
    refused = sum(curve(history, "refused", lambda entry: entry["refused"]).known)
    late = sum(curve(history, "late", lambda entry: entry["late"]).known)
    found = [
        *(tile for tile in figures if tile.name.startswith("Validation")),
        *(tile for tile in figures if not tile.name.startswith("Validation")),
        speed_tile(history),
        time_tile(history),
        staleness_tile(history),
    ]
    if refused:
        found.append(Tile("Refused updates", text.count(refused), "they held values that were not finite"))
    if late:
        found.append(Tile("Late updates", text.count(late), "they came too late and were not applied"))
    if skipped := sum(curve(history, "skipped", lambda entry: entry.get("skipped", 0)).known):
        found.append(Tile("Skipped batches", text.count(skipped), "they could not be read"))
    if lost := history.get("lost"):
        who = ", ".join(f"rank {one.get('rank')} after {text.seconds(one.get('seconds'))}" for one in lost)
        found.append(Tile("Lost workers", text.count(len(lost)), who))
    if restored := history.get("restored"):
        when = ", ".join(f"after {text.seconds(one.get('seconds'))}" for one in restored)
        found.append(Tile("Restored", f"{text.count(len(restored))} time{'s' * (len(restored) != 1)}", when))
    return found


def figure_tiles(history: History, name: str) -> list[Tile]:
    """The last value of a figure in validation and in training, and beside it the best and the one measured."""
    title = title_of(name)[0].lower() + title_of(name)[1:] if title_of(name) != name else name
    trained, validated = pair(history, name)
    beside = "; ".join(filter(None, (best_text(trained), measured_text(measured(history, name)))))
    tiles = (trained, "Training", beside), (validated, "Validation", best_text(validated))
    return [Tile(f"{where} {title}", text.figure(one.known[-1]), said) for one, where, said in tiles if one.known]


def best_text(curve: Curve) -> str:
    found = best(curve)
    if len(curve.known) < 2 or found is None:
        return ""
    return "its best value" if found[1] == curve.known[-1] else f"best {text.figure(found[1])} at epoch {found[0]:.3g}"


def measured_text(whole: Curve) -> str:
    return f"{text.figure(whole.known[-1])} on the training set at the end" if whole.known else ""


def speed_tile(history: History) -> Tile:
    workers, overall = len(worker_rates(history)), overall_rate(history)
    each = f"{text.rate(overall / workers)} a worker" if workers > 1 and text.known(overall) else ""
    return Tile("Samples per second", text.rate(overall), each)


def time_tile(history: History) -> Tile:
    """That of the epochs, beside it the whole, which ends with the last validation."""
    epochs, whole = seconds_of(history), number(history, lambda history: history["seconds"])
    parts = [text.plural(len(history["epochs"]), "epoch")]
    parts += [f"{text.seconds(whole)} in all"] if text.known(whole) else []
    return Tile("Time", text.seconds(epochs), "; ".join(parts))


def staleness_tile(history: History) -> Tile:
    counts = total_delays(history["epochs"])
    mean = mean_delay(counts)
    largest = f"largest {len(counts) - 1}" if counts else ""
    return Tile("Mean staleness", f"{mean:.3g}" if text.known(mean) else text.DASH, largest)
