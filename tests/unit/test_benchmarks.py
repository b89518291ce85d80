"""The benchmark of the modes: its settings are flags that exist, its table says what was measured."""

from __future__ import annotations

from typing import Any

from nnlo.algos import MODES

NAMES = ("settings", "trainings", "shapes", "convergence")


def test_every_mode_is_there_with_settings_that_exist(parts: dict[str, Any]) -> None:
    settings = parts["settings"]
    flags = {name: [setting(workers) for workers in settings.WORKERS] for name, setting in settings.SETTINGS.items()}
    modes = {name: {parts["trainings"].algo_of(one).mode for one in some} for name, some in flags.items()}
    assert set.union(*modes.values()) == set(MODES)
    assert all(name.startswith(tuple(of_one)) for name, of_one in modes.items())
    for one in (*parts["shapes"].STALE.values(), *parts["shapes"].VOTES.values()):
        parts["trainings"].algo_of(one)


def test_rates_by_the_number_of_workers(parts: dict[str, Any]) -> None:
    settings = parts["settings"]
    assert [settings.larger(1e-3, workers) for workers in (1, 4, 16)] == ["0.001", "0.002", "0.004"]
    assert [settings.smaller(2e-3, workers) for workers in (1, 4, 16)] == ["0.002", "0.002", "0.001"]


def test_the_table(parts: dict[str, Any]) -> None:
    def row(name: str, workers: int, staleness: float, sent: float) -> dict[str, Any]:
        return {"name": name, "workers": workers, "val_acc": 0.9 + workers / 100, "staleness": staleness,
                "bytes_a_sample": sent}  # fmt: skip

    rows = [row("one", 2, 1.0, 10.4), row("one", 4, 3.1, 10.4), row("two", 2, 0.0, 5.0), row("two", 4, 0.0, 17.0)]
    lines = parts["convergence"].table(rows).splitlines()
    assert lines[0] == "| mode | 2 workers | 4 workers | staleness | bytes a sample |"
    assert lines[2:] == ["| one | 0.920 | 0.940 | 1 to 3 | 10 |", "| two | 0.920 | 0.940 | 0 | 5 to 17 |"]


def test_curves_are_means_over_equal_parts(parts: dict[str, Any]) -> None:
    assert parts["shapes"].means([1.0, 3.0, 5.0, 5.0], 2) == [2.0, 5.0]
    assert parts["shapes"].means([1.0, 3.0, 5.0], 2) == [1.0, 4.0]
    assert parts["shapes"].means([1.0, 3.0], 5) == [1.0, 3.0]
