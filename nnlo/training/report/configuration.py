"""The lists of a report: options, data, machine and versions, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnlo.algos import MODES
from nnlo.optim import Schedule
from nnlo.options import flag_of
from nnlo.training.arguments import (
    DataArguments,
    ModelArguments,
    OptimizerArguments,
    OutputArguments,
    ScheduleArguments,
    TrainingArguments,
)
from nnlo.training.checkpoint.arguments import CheckpointArguments
from nnlo.training.observe import ObserveArguments
from nnlo.training.plots.series import History
from nnlo.training.ranks import RanksArguments
from nnlo.training.reading import ReadingArguments
from nnlo.training.replay import ReplayArguments
from nnlo.training.report import text
from nnlo.training.report.tables import peak_memory
from nnlo.training.survival import SurvivalArguments
from nnlo.training.weights import WeightsArguments

SECTIONS = (
    ModelArguments, WeightsArguments, DataArguments, ReadingArguments, TrainingArguments, OptimizerArguments,
    ScheduleArguments, RanksArguments, SurvivalArguments, CheckpointArguments, ReplayArguments, OutputArguments,
    ObserveArguments,
)  # fmt: skip
"""The options of a training beside those of its mode and of callbacks, which are off by themselves."""

SHOWN = (
    "model", "trial", "outcome", "stop_reason", "started", "arguments", "seeds", "epochs", "validations", "workers",
    "lost", "restored", "monitor", "nnlo", "versions", "hosts", "peak_memory_bytes",
)  # fmt: skip
"""What has a place of its own in the report."""

NAMES = {"seconds": "time in all", "train_data": "training data", "val_data": "validation data",
         "train_samples": "training samples", "val_samples": "validation samples"}  # fmt: skip


Pairs = list[tuple[str, str]]


def options(history: History) -> tuple[Pairs, Pairs]:
    """The options, by their flags: those that are not as their defaults are, and the others that have a value."""
    recorded = history.get("arguments") or {}
    usual = defaults(recorded.get("mode"))
    pairs = [
        (usual.get(name, False) == value, (flag_of(str(name)), value_text(value, name)))
        for name, value in recorded.items()
        if value not in (None, {}, [], "")
    ]
    return [pair for same, pair in pairs if not same], [pair for same, pair in pairs if same]


def defaults(mode: str | None) -> dict[str, Any]:
    """The options of a training in this mode where none was given, the way that its history keeps them."""
    known = MODES[mode] if mode is not None and mode in MODES else None
    kinds = [*SECTIONS, *([known.options] if known else [])]
    records = [
        *(kind().recorded() for kind in kinds),
        {"schedule": Schedule.of().recorded()},
        known.defaults if known else {},
    ]
    return {name: value for record in records for name, value in record.items()}


def seeds(history: History) -> Pairs:
    """What was drawn from which seed."""
    known = history.get("seeds") or {}
    ranks = known.get("ranks") or {}
    rest = [(str(name), str(seed)) for name, seed in known.items() if name != "ranks"]
    return [*rest, *((f"rank {rank}", str(seed)) for rank, seed in ranks.items())]


def circumstances(history: History) -> list[tuple[str, str]]:
    """Data, machine and versions, and all else that the history tells."""
    hosts, versions = history.get("hosts") or (), (history.get("versions") or {})
    rest = [(str(key), value) for key, value in history.items() if key not in SHOWN]
    return [
        *([("hosts", text.times(hosts))] if hosts else []),
        *(
            (NAMES.get(key, key.replace("_", " ")), value_text(value, key))
            for key, value in rest
            if value not in (None, {}, [])
        ),
        ("peak memory, rank 0", text.size(peak_memory(history, "0"))),
        ("nnlo", str(history.get("nnlo", text.DASH))),
        *((str(name), str(version)) for name, version in versions.items()),
    ]


def value_text(value: Any, key: str = "") -> str:
    """Numbers with their separators and units, lists and dictionaries without brackets."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {value_text(one)}".removeprefix("name ") for name, one in value.items())
    if isinstance(value, list):
        return text.times(value_text(one) for one in value)
    if key == "seconds":
        return text.seconds(value)
    if isinstance(value, float):
        return f"{value:.10g}"
    return f"{value:,}" if isinstance(value, int) and key != "seed" else str(value)
