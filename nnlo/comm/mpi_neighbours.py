"""Exchanges with neighbours by MPI: its neighbourhood collectives on a communicator that knows the graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nnlo.comm.base import Exchange, Neighbourhood
from nnlo.comm.motion import Motion, MpiCollective
from nnlo.comm.mpi_channel import started


class MpiNeighbourhood(Neighbourhood):
    """`graph` is that communicator, and `heard` how many this rank hears."""

    def __init__(self, graph: Any, peers: frozenset[int], motion: Motion, heard: int, nbytes: int) -> None:
        self.graph, self._peers, self._motion = graph, peers, motion
        self._rows = torch.zeros((heard, nbytes), dtype=torch.uint8)

    def exchange(self, mine: Tensor) -> Exchange:
        watch = self._motion.watch
        request = started(watch, self.graph.Ineighbor_allgather, mine.numpy(), self._rows.numpy())
        exchange = MpiExchange(request, watch, self.graph, self._peers)
        exchange.rows = self._rows
        if request:
            self._motion.begin(exchange)
        return exchange

    def give_up(self) -> None:
        """What is under way touches no memory any more."""
        self.graph.Revoke()
        self._motion.give_up(self.graph)


class MpiExchange(MpiCollective, Exchange):
    rows: Tensor

    def values(self) -> list[Tensor]:
        return list(self.rows)
