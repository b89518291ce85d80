"""The network between the hosts of the virtual clock: when a message has left, and when it is there."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from nnlo.comm.costs import Costs


class Links:
    """Each host has one link, whose two ways are apart; messages within a host need none and do not queue."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._busy: defaultdict[tuple[int, str], float] = defaultdict(float)
        self._latest: defaultdict[tuple[Any, ...], float] = defaultdict(float)

    def carry(self, channel: tuple[Any, ...], here: int, there: int, nbytes: int, now: float) -> tuple[float, float]:
        """When a message that is sent now leaves one host, and when it arrives at the other.

        On one channel none overtakes another.
        """
        costs = self._costs
        if here == there:
            left = now + nbytes / costs.local_bandwidth
            arrived = left + costs.local_latency
        else:
            left = self._occupy((here, "out"), now, nbytes)
            arrived = max(left, self._occupy((there, "in"), now, nbytes)) + costs.latency
        self._latest[channel] = max(arrived, self._latest[channel])
        return left, self._latest[channel]

    def _occupy(self, way: tuple[int, str], now: float, nbytes: int) -> float:
        self._busy[way] = max(now, self._busy[way]) + nbytes / self._costs.bandwidth
        return self._busy[way]
