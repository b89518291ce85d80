"""Paired measurements: A B A B ..., so that what else the machine does falls on all alike."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path


def interleaved(
    contenders: Mapping[str, Callable[[], dict[str, float]]], rounds: int
) -> dict[str, list[dict[str, float]]]:
    """Run each contender once a round; their figures by name, a dictionary for each round."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name, measure in contenders.items():
            found[name].append(measure())
            print(f"round {turn + 1}/{rounds}  {name:32} {line(found[name][-1])}", flush=True)
    return found


def line(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:,.4g}" for name, value in figures.items())


def medians(found: Mapping[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()}


def ratios(found: Mapping[str, list[dict[str, float]]], name: str, base: str, key: str) -> list[float]:
    """`name` over `base`, round by round."""
    return [ours[key] / theirs[key] for ours, theirs in zip(found[name], found[base], strict=True)]


def report(found: Mapping[str, list[dict[str, float]]], base: str, key: str, out: Path | None) -> None:
    """A table on the terminal, and all figures as JSON where `out` names a file."""
    middle = medians(found)
    print(f"\n{'':32} {key:>20}  ratio to {base}: median (lowest, highest)")
    for name in found:
        each = sorted(ratios(found, name, base, key))
        spread = f"{statistics.median(each):.2f} ({each[0]:.2f}, {each[-1]:.2f})"
        print(f"{name:32} {middle[name][key]:>20,.0f}  {spread}")
    if out is not None:
        out.write_text(json.dumps({"rounds": found, "medians": middle}, indent=1))
