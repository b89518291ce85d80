"""The pictures of the benchmarks are drawn from the figures that these write."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

NAMES = ("throughput", "exchange", "pictures")


def rounds(middle: float, key: str) -> list[dict[str, float]]:
    return [{key: middle * factor, "startup": 1.0} for factor in (0.9, 1.0, 1.2)]


FIGURES = {
    "throughput": {
        name: {
            "two loops": rounds(10.0, "samples_per_second"),
            "two loops that meet": rounds(8.0, "samples_per_second"),
            "downpour": rounds(9.7, "samples_per_second"),
        }
        for name in ("mnist", "mlp")
    },
    "exchange": {
        str(size): {way: rounds(size, "microseconds") for way in ("limit", "shm", "mpi")} for size in (100, 1000)
    },
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_is_drawn(name: str, parts: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, picture = tmp_path / f"{name}.json", tmp_path / f"{name}.png"
    figures.write_text(json.dumps(FIGURES[name]))
    monkeypatch.setattr(sys, "argv", ["pictures.py", str(figures), str(picture)])
    parts["pictures"].main()
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_contender_is_compared_with_two_loops(parts: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    panel = Figure().add_subplot()
    parts["pictures"].draw_workload(panel, FIGURES["throughput"]["mnist"])
    assert [label.get_text() for label in panel.get_yticklabels()] == ["two loops that meet", "downpour"]
    assert [text.get_text() for text in panel.texts] == ["0.80", "0.97"]
