"""Batches a second of any number of ranks on the virtual clock, at the costs that real ranks were seen to have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from exchange import Builder, Vector
from scaling_ranks import Batches, Setting
from torch import Tensor

from nnlo import Callback, MPIManager
from nnlo.comm.costs import Costs, Host
from nnlo.comm.tables import Rows
from nnlo.comm.virtual import VirtualWorld
from nnlo.flat import HEADER_BYTES, Arena, Layout
from nnlo.topology import Topology

JITTER = 0.1
SUMS = 1
"""Figures that come with an update: the loss."""
UNLIMITED = 10**9
"""Batches of a worker: the forecast ends before."""
WARM_UP, LEAST = 2, 2
"""Updates of each worker that do not count, and at least that do."""
MOST = 400
"""Updates of all workers together that are enough; fewer of a large model."""


@dataclass(frozen=True)
class Prices:
    """Seconds of a rank's own core. A message of a master between tells of several workers: a row for each.

    `batch`: of a worker for a batch; `exchange`: of a worker, `master`: of its master for an update and its answer.
    `head` and `relay`: for such a message and its answer, of the head and of the master between, which also pays
    `relay_row` for each update from below, as the head pays `row`. `wake`: until a message is seen.
    """

    batch: float
    exchange: float
    master: float
    wake: float
    head: float = 0.0
    row: float = 0.0
    relay: float = 0.0
    relay_row: float = 0.0


Figures = Mapping[str, float]


def prices_of(one: Figures, rare: Figures | None = None, relayed: tuple[Figures, Figures] | None = None) -> Prices:
    """From one worker, from one that exchanges after every 8th batch, from 1 and from 4 behind a master between."""
    batch = (rare["workers"] - one["workers"]) / 7 if rare else one["workers"]
    batch = min(max(batch, 0.0), one["workers"])
    wake = max(0.0, (1e6 / one["rate"] - one["master"] - one["workers"]) / 2)
    head, row = line(*relayed, "master") if relayed else (0.0, 0.0)
    relay, relay_row = line(*relayed, "relays") if relayed else (0.0, 0.0)
    found = (batch, one["workers"] - batch, one["master"], wake, head, row, relay, relay_row)
    return Prices(*(1e-6 * price for price in found))


def line(few: Figures, many: Figures, who: str) -> tuple[float, float]:
    """Of a message, and of each row of it, from messages of few and of many rows."""
    (x, y), (u, v) = ((one["rows"], one[who] * one["rows"]) for one in (few, many))
    row = min(max((v - y) / (u - x), 0.0), y / x) if u > x else 0.0
    return y - x * row, row


class Handling:
    """What a rank pays for a message: half of an exchange."""

    def __init__(self, prices: Prices, topology: Topology, parameters: int) -> None:
        self.prices, self.topology = prices, topology
        self.rows = Rows(topology.behind, SUMS)
        self.plain = Arena.nbytes(Layout.of(Vector(parameters)), SUMS)

    def __call__(self, peer: int, message: Tensor) -> float:
        prices, node = self.prices, self.topology.nodes[peer]
        if node.worker:
            return prices.exchange / 2
        if not self.topology.behind:
            return prices.master / 2
        if not peer:
            return (prices.head + prices.row * self.told(message)) / 2
        above = message.numel() > self.plain or message.numel() == self.rows.end
        return (prices.relay if above else prices.relay_row) / 2

    def told(self, message: Tensor) -> int:
        """The rows that are not empty."""
        rows = message[HEADER_BYTES:][: self.rows.count * self.rows.size].view(self.rows.count, -1)
        return int(rows[:, :HEADER_BYTES].any(1).sum())


@dataclass(frozen=True)
class Machine:
    """Hosts with so many cores for so many ranks (None: one for all), seconds and bytes a second between them."""

    cores: float
    ranks: int | None = None
    latency: float = 0.0
    bandwidth: float = float("inf")

    def hosts(self, size: int) -> list[Host]:
        each = self.ranks or size
        return [Host(tuple(range(i, min(i + each, size))), self.cores) for i in range(0, size, each)]


class Enough(Exception):
    """The forecast has seen what it wants."""


class Steady(Callback):
    """Ends the training once so many batches have been applied; the rate between the first and the last that count.

    What the master does without waiting is all done at one time of the clock, and has passed at the next.
    """

    def __init__(self, world: VirtualWorld, first: int, last: int) -> None:
        self.world, self.first, self.last = world, first, last
        self.began: tuple[float, int] | None = None
        self.time, self.done, self.rate = 0.0, 0, 0.0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        if self.world.now() > self.time:
            self.time = self.world.now()
            self.mark()
        self.done = logs["samples"]

    def mark(self) -> None:
        if self.began is None and self.done >= self.first:
            self.began = self.time, self.done
        elif self.began is not None and self.done >= self.last:
            self.rate = (self.done - self.began[1]) / (self.time - self.began[0])
            raise Enough


def forecast(workers: int, setting: Setting, prices: Prices, machine: Machine, batch: float | None = None) -> float:
    """Batches a second; `batch`: the seconds of one on each worker, where it is another than that of `prices`."""
    size = workers + setting.masters
    costs = Costs(
        compute=prices.batch if batch is None else batch,
        jitter=JITTER,
        handling=Handling(prices, Topology.of(size, setting.masters), setting.parameters),
        latency=machine.latency + prices.wake,
        bandwidth=machine.bandwidth,
        local_latency=prices.wake,
    )
    world = VirtualWorld(size, hosts=machine.hosts(size), costs=costs)
    turn = workers * setting.sync_every
    counted = max(LEAST, min(MOST, 4 * 10**7 // setting.parameters) // workers)
    steady = Steady(world, WARM_UP * turn, (WARM_UP + counted) * turn)
    data, builder = Batches(UNLIMITED), Builder(setting.parameters)
    options: dict[str, Any] = {"output": None, "callbacks": [steady]}
    try:
        MPIManager(world, data, setting.algo(), builder, 1, None, None, setting.masters, **options).train()
    except Enough:
        return steady.rate
    raise AssertionError("the training ended before the forecast did")
