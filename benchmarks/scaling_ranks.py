"""Updates of one master and its workers on real ranks: how many, and what they take of the machine's cores.

Workers cost nothing but the exchange: the gradient of `exchange.Vector` stays as it is. A run is looked at in windows
of about half a second; those in which other processes had a part of the machine do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
from exchange import Builder
from launch import ranks_of

from nnlo import Algo, Callback, Data, MPIManager
from nnlo.topology import Topology

WINDOWS = 8
"""The first and the last are not counted: ranks begin and end one by one."""
OTHERS = 0.15
"""Of a core: what others may have in a window that counts."""
ENOUGH = 3
"""Windows that count at least: where there are not so many, those in which others had least."""

Window = dict[str, float]


@dataclass(frozen=True)
class Setting:
    """What is trained: so many parameters, options of `Algo`, and how many masters with their head."""

    parameters: int = 1000
    options: Mapping[str, Any] = field(default_factory=dict)
    masters: int = 1

    @property
    def batches(self) -> int:
        """Of a window: about half a second."""
        return max(100, min(1000, 10**8 // self.parameters))

    @property
    def sync_every(self) -> int:
        return int(self.options.get("sync_every", 1))

    def algo(self) -> Algo:
        return Algo("sgd", lr=0.01, loss="mse", metrics=(), **self.options)

    def to_json(self) -> str:
        return json.dumps([self.parameters, dict(self.options), self.masters])


class Batches(Data):
    """So many batches of one sample for each worker."""

    shards_itself = True

    def __init__(self, count: int) -> None:
        super().__init__(1)
        self.count = count

    def count_data(self) -> int:
        return self.count

    def generate_data(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for _ in range(self.count):
            yield np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)


class Windows(Callback):
    """What passes between one end of an epoch and the next; `pids` are the ranks' processes."""

    def __init__(self, pids: list[int]) -> None:
        self.processes = [psutil.Process(pid) for pid in pids]
        self.seen: list[tuple[float, float, list[float]]] = []
        self.done: list[tuple[int, int]] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        cpu = [sum(process.cpu_times()[:2]) for process in self.processes]
        self.seen.append((time.perf_counter(), busy_seconds(), cpu))
        self.done.append((logs["samples"], logs["updates"]))

    def windows(self, topology: Topology) -> list[Window]:
        relays = [node.rank for node in topology.nodes if node.rank and not node.worker]
        found = []
        for i in range(1, len(self.seen) - 1):
            seconds, busy = (self.seen[i][at] - self.seen[i - 1][at] for at in (0, 1))
            cpu = np.subtract(self.seen[i][2], self.seen[i - 1][2])
            found.append({
                "seconds": seconds,
                "batches": self.done[i][0] - self.done[i - 1][0],
                "steps": self.done[i][1],
                "master": cpu[0],
                "relays": cpu[relays].sum(),
                "workers": cpu[list(topology.leads)].sum(),
                "others": (busy - cpu.sum()) / seconds,
            })  # fmt: skip
        return found


def busy_seconds() -> float:
    """What all processes of this machine have had of its cores, and what was not given to it."""
    times = psutil.cpu_times()._asdict()
    return sum(times.get(name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))


def rank(setting: Setting) -> None:
    """What each rank of a launch does; rank 0 prints the windows."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    windows, data = Windows(comm.allgather(os.getpid())), Batches(setting.batches)
    data.count = max(1, setting.batches // (comm.size - setting.masters))
    manager = MPIManager(
        comm, data, setting.algo(), Builder(setting.parameters), WINDOWS, None, None, setting.masters,
        output=None, callbacks=[windows],
    )  # fmt: skip
    if manager.train() is not None:
        print(json.dumps(windows.windows(manager.job.topology)))


def measured(workers: int, setting: Setting) -> dict[str, float]:
    """Medians of the windows that count."""
    windows: list[Window] = ranks_of(__file__, workers + setting.masters, setting.to_json())
    windows.sort(key=lambda window: window["others"])
    count = max(ENOUGH, sum(window["others"] < OTHERS for window in windows))
    figures = [of_window(window, setting.sync_every) for window in windows[:count]]
    return {key: statistics.median(one[key] for one in figures) for key in figures[0]}


def of_window(window: Window, sync_every: int) -> dict[str, float]:
    """Rates, and microseconds of a core for each update of a worker."""
    updates = window["batches"] / sync_every
    spent = {name: 1e6 * window[name] / updates for name in ("master", "relays", "workers")}
    rows = updates / window["steps"]
    return {"rate": window["batches"] / window["seconds"], **spent, "rows": rows, "others": window["others"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", required=True, metavar="JSON", help="parameters, options of Algo, masters")
    parameters, options, masters = json.loads(parser.parse_args().rank)
    rank(Setting(parameters, options, masters))


if __name__ == "__main__":
    main()
