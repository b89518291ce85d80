"""The benchmark of one master: prices from figures, forecasts from prices, tables from both."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nnlo.comm.messages import Header, Kind
from nnlo.comm.tables import Table
from nnlo.topology import Topology

NAMES = ("exchange", "launch", "paired", "scaling_ranks", "scaling_forecast", "scaling_report", "master_scaling")


def spent(workers: float, master: float = 200, relays: float = 0, rows: float = 1) -> dict[str, float]:
    return {"rate": 1000, "master": master, "relays": relays, "workers": workers, "rows": rows}


def test_prices_are_what_was_spent(parts: dict[str, Any]) -> None:
    """In microseconds: of 1,000 an exchange 800 were spent by cores, so that each of two messages takes 100 more."""
    prices_of = parts["scaling_forecast"].prices_of
    found = prices_of(spent(600), spent(600 + 7 * 400), (spent(0, 300, 450), spent(0, 150, 250, rows=4)))
    each = {name: pytest.approx(1e-6 * value) for name, value in vars(prices_of(spent(600))).items()}
    assert each.keys() == vars(found).keys()
    assert vars(found) == {
        name: pytest.approx(1e-6 * value)
        for name, value in {
            "batch": 400, "exchange": 200, "master": 200, "wake": 100,
            "head": 200, "row": 100, "relay": 450 - 550 / 3, "relay_row": 550 / 3,
        }.items()
    }  # fmt: skip


def test_a_window_is_told_by_the_update(parts: dict[str, Any]) -> None:
    window = {"seconds": 2.0, "batches": 800, "steps": 25, "master": 0.1, "relays": 0.2, "workers": 0.4, "others": 0.5}
    found = parts["scaling_ranks"].of_window(window, 8)
    assert found == {"rate": 400, "master": 1000, "relays": 2000, "workers": 4000, "rows": 4, "others": 0.5}


@pytest.mark.parametrize(("workers", "rate"), [(1, 500), (4, 1000), (8, 1000)])
def test_a_master_is_busy_at_its_price(parts: dict[str, Any], workers: int, rate: float) -> None:
    """A millisecond for an update, and one for a batch."""
    forecast, ranks = parts["scaling_forecast"], parts["scaling_ranks"]
    prices = forecast.Prices(batch=1e-3, exchange=0.0, master=1e-3, wake=0.0)
    machine = forecast.Machine(workers + 1)
    assert forecast.forecast(workers, ranks.Setting(), prices, machine) == pytest.approx(rate, rel=0.02)


def test_ranks_share_what_cores_there_are(parts: dict[str, Any]) -> None:
    """Each batch takes four milliseconds in all, and there is a core and a half."""
    forecast, ranks = parts["scaling_forecast"], parts["scaling_ranks"]
    prices = forecast.Prices(batch=3e-3, exchange=0.0, master=1e-3, wake=0.0)
    found = forecast.forecast(8, ranks.Setting(), prices, forecast.Machine(1.5))
    assert found == pytest.approx(1.5 / 4e-3, rel=0.02)


def test_what_a_message_costs_by_who_handles_it(parts: dict[str, Any]) -> None:
    """A head, two masters and two workers behind each: rows that are told count, others do not."""
    forecast = parts["scaling_forecast"]
    prices = forecast.Prices(1.0, 2.0, 4.0, 0.0, head=8.0, row=16.0, relay=32.0, relay_row=64.0)
    handling = forecast.Handling(prices, Topology.of(7, 3), 1000)
    memory = torch.zeros(handling.rows.end, dtype=torch.uint8)
    header = Header(Kind.UPDATE, nbytes=len(memory))
    Table(header, (None, Header(Kind.UPDATE, count=1)), handling.rows).write(memory.numpy().data)
    assert handling(0, memory) == (8.0 + 16.0) / 2
    assert handling(1, memory) == 32.0 / 2
    below = torch.zeros(handling.plain, dtype=torch.uint8)
    assert [handling(peer, below) for peer in (1, 2)] == [64.0 / 2, 2.0 / 2]
    assert forecast.Handling(prices, Topology.of(3), 1000)(0, below) == 4.0 / 2


def test_so_many_ranks_divide(parts: dict[str, Any]) -> None:
    scaling = parts["master_scaling"]
    for ranks in scaling.RANKS:
        for workers, setting in scaling.shapes(ranks).values():
            assert Topology.of(ranks, setting.masters).workers == workers


def test_the_tables(parts: dict[str, Any]) -> None:
    report = parts["scaling_report"]
    row = {"name": "2 workers", "measured": [900.0, 1000.0, 1200.0], "known": False}
    rows = [{**row, "ratios": [0.5, 1.1, 1.2]}, {**row, "ratios": [0.8]}, {**row, "ratios": [1.0], "known": True}]
    lines = report.compared(rows).splitlines()[2:]
    assert lines[0] == "| 2 workers | 1,000 (900 to 1,200) | 1.10 (0.50 to 1.20) | within 15 % |"
    assert [line.split(" | ")[-1] for line in lines[1:]] == ["misses |", "prices are from here |"]
    crossed = [{"ranks": 4, "name": name, "forecast": 75.0, "ideal": 300.0} for name in ("one master", "tree")]
    assert report.crossed(crossed, "ranks").splitlines()[2] == "| 4 | 75 (25 %) | 75 (25 %) |"
