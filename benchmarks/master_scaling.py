"""How many updates one master can take, and what a tree of masters, rare exchanges and compression buy.

    python benchmarks/master_scaling.py --rounds 5 --out .
    python benchmarks/master_scaling.py --measured master_scaling.json --out .    # forecasts again, from those figures

First with real ranks (`scaling_ranks.py`): one master and 1 to 8 workers of a tiny model. From what one worker and its
master take of a core, and from a master between with 1 and with 4 workers, the virtual clock forecasts the others on
the cores that other processes left (`scaling_forecast.py`), which is to be within 15 % of what was measured. Then it
forecasts what this machine has no cores for: ranks with a core each, on hosts of `--cores` and a network between.
Rounds take three minutes, the forecast of 4,096 ranks half an hour: `--ranks 256` is done in a few minutes.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from paired import interleaved, medians
from scaling_forecast import Figures, Machine, Prices, forecast, prices_of
from scaling_ranks import Setting, measured
from scaling_report import draw, markdown

LARGE = 1_000_000
RARE, TOGETHER = {"sync_every": 8}, {"synchronous": True}
CODECS: dict[str, dict[str, Any]] = {
    "none": {},
    "fp16": {"compress": "fp16", "compress_down": "fp16"},
    "topk:ratio=0.01": {"compress": "topk:ratio=0.01", "compress_down": "topk:ratio=0.01"},
}
#: What prices are taken from, by name: how many workers of which setting.
ONE, RARELY, BETWEEN, BEHIND = (
    "1 worker",
    "1 worker, --sync-every 8",
    "--n-masters 2, 1 worker",
    "--n-masters 2, 4 workers, --synchronous",
)
KNOWN = {
    ONE: (1, Setting()),
    RARELY: (1, Setting(options=RARE)),
    BETWEEN: (1, Setting(masters=2)),
    BEHIND: (4, Setting(options=TOGETHER, masters=2)),
}
#: What is forecast and measured.
TRIED = {
    **{f"{workers} workers": (workers, Setting()) for workers in (2, 4, 8)},
    "4 workers, --sync-every 8": (4, Setting(options=RARE)),
    "--n-masters 3, 4 workers": (4, Setting(masters=3)),
    "--n-masters 3, 4 workers, --synchronous": (4, Setting(options=TOGETHER, masters=3)),
}
WORKERS = (1, 2, 3, 4, 6, 8, 16, 32, 64)
RANKS = (4, 16, 64, 256, 1024, 4096)
Found = Mapping[str, list[dict[str, float]]]
Rows = list[dict[str, Any]]


def measure(rounds: int) -> Found:
    large = {name: (1, Setting(LARGE, options)) for name, options in CODECS.items()}
    everything = {**KNOWN, **TRIED, **large}
    return interleaved({name: partial(measured, *run) for name, run in everything.items()}, rounds)


def prices(figures: Figures) -> Prices:
    return prices_of(figures[ONE], figures[RARELY], (figures[BETWEEN], figures[BEHIND]))


def tried(found: Found) -> Rows:
    """Batches a second of real ranks, and over them those that are forecast from the prices of the same round."""
    rows = []
    for name, (workers, setting) in {**KNOWN, **TRIED}.items():
        rates = [one["rate"] for one in found[name]]
        ratios = [
            forecast(workers, setting, prices(figures), machine_of(figures[name])) / figures[name]["rate"]
            for figures in rounds_of(found)
        ]
        rows.append({"name": name, "workers": workers, "known": name in KNOWN, "measured": rates, "ratios": ratios})
    return rows


def rounds_of(found: Found) -> list[dict[str, Figures]]:
    return [dict(zip(found, figures, strict=True)) for figures in zip(*found.values(), strict=True)]


def machine_of(figures: Figures) -> Machine:
    """This one, without what others had of it."""
    return Machine((os.cpu_count() or 1) - max(0.0, figures["others"]))


def alone(own: Prices, machine: Machine) -> Rows:
    """Updates a second of one master by the number of its workers, each with a core of its own."""
    return [{"workers": workers, "forecast": forecast(workers, Setting(), own, machine)} for workers in WORKERS]


def shapes(ranks: int) -> dict[str, tuple[int, Setting]]:
    """Workers and settings of so many ranks, a power of 4: its root less one are masters with as many as its root."""
    root = round(ranks**0.5)
    behind = (root - 1) * root
    return {
        "one master": (ranks - 1, Setting()),
        "one master, --sync-every 8": (ranks - 1, Setting(options=RARE)),
        "tree": (behind, Setting(masters=root)),
        "tree, --synchronous": (behind, Setting(options=TOGETHER, masters=root)),
    }


def many(own: Prices, machine: Machine, batch: float, most: int) -> Rows:
    """Batches a second of many ranks, whose workers need `batch` seconds for one."""
    rows = []
    for ranks in (number for number in RANKS if number <= most):
        for name, (workers, setting) in shapes(ranks).items():
            rate = forecast(workers, setting, own, machine, batch)
            rows.append({"ranks": ranks, "workers": workers, "name": name, "forecast": rate, "ideal": workers / batch})
            print(f"{ranks:5} ranks  {name:28} {rate:10,.0f} batches/s", flush=True)
    return rows


def compressed(found: Found, machine: Machine, batch: float) -> Rows:
    """The same of a model that is large, by how its updates and the answers are compressed; workers have own hosts."""
    rows, middle = [], medians(found)
    for name, options in CODECS.items():
        own = prices_of(middle[name])
        for workers in (1, 4, 16, 64):
            rate = forecast(workers, Setting(LARGE, options), own, machine, batch + own.batch)
            rows.append({"workers": workers, "name": name, "forecast": rate, "ideal": workers / batch})
            print(f"{workers:5} workers, {LARGE:,} parameters, --compress {name:16} {rate:8,.0f} batches/s", flush=True)
    return rows


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measured", type=Path, help="figures of an earlier run, in the stead of rounds")
    parser.add_argument("--ranks", type=int, default=RANKS[-1], help="the most that are forecast")
    parser.add_argument("--batch-seconds", type=float, default=0.01, help="of a worker's batch in that forecast")
    parser.add_argument("--cores", type=int, default=32, help="of a host there, and its ranks")
    parser.add_argument("--latency", type=float, default=2e-6, help="seconds between hosts")
    parser.add_argument("--bandwidth", type=float, default=1.25e10, help="bytes a second between hosts")
    parser.add_argument("--slow", type=float, default=1.25e8, help="the same of the network that compression is for")
    parser.add_argument("--out", type=Path, help="folder for master_scaling.json and master_scaling.png")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    found = json.loads(given.measured.read_text())["rounds"] if given.measured else measure(given.rounds)
    own = prices(medians(found))
    machine = Machine(given.cores, given.cores, given.latency, given.bandwidth)
    everything = {
        "rounds": found,
        "prices": vars(own),
        "tried": tried(found),
        "alone": alone(own, machine),
        "many": many(own, machine, given.batch_seconds, given.ranks),
        "compressed": compressed(found, Machine(1, 1, given.latency, given.slow), given.batch_seconds),
    }
    print(f"\n{markdown(everything)}")
    if given.out is not None:
        (given.out / "master_scaling.json").write_text(json.dumps(everything, indent=1))
        draw(everything, given.out / "master_scaling.png")


if __name__ == "__main__":
    main()
