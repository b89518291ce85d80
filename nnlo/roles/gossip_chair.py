"""Rank 0 of nodes on a graph: at the points of a run it looks at the weights of each of them, and at their mean."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from nnlo.comm.base import Transport
from nnlo.comm.messages import Header
from nnlo.errors import PeerLost
from nnlo.flat import Arena
from nnlo.roles.chair import Chair
from nnlo.roles.gossip import VIEWS
from nnlo.roles.milestones import Owner
from nnlo.roles.setup import Setup
from nnlo.roles.validator import Figures, Snapshot
from nnlo.training.callbacks import Callbacks
from nnlo.training.history import History
from nnlo.training.job import Job


class View:
    """What one node shows."""

    def __init__(self, transport: Transport, peer: int, setup: Setup) -> None:
        nbytes = Arena.nbytes(setup.layout, 0)
        self.peer, self.channel = peer, transport.channel(peer, VIEWS, nbytes)
        self.arena = Arena(setup.layout, 0, self.channel.incoming)


class GossipChair(Chair):
    """What it validates, keeps and leaves is the mean of the nodes' weights; each node is validated beside it.

    `seen` are the views of the last point, of those who showed theirs.
    """

    def __init__(
        self, transport: Transport, job: Job, setup: Setup, callbacks: Callbacks, owner: Owner, history: History
    ) -> None:
        super().__init__(transport, job, setup, callbacks, owner, history)
        self._views = {peer: View(transport, peer, setup) for peer in self.workers}
        self.seen: list[View] = []
        self._distances: dict[str, Any] = {}
        self._module = Snapshot(copy.deepcopy(setup.module), setup.layout)
        self.milestones.validator.also = self.nodes

    def report(self) -> dict[str, Any]:
        return {**super().report(), **self._distances}

    async def point(self, header: Header) -> None:
        """What was shown before is still being validated until the last point's validation has ended."""
        await self.milestones.settle()
        await self._look()
        if self.seen:
            self._distances = average(self.arena, [view.arena for view in self.seen])
        await super().point(header)

    async def _look(self) -> None:
        """Let all nodes show their weights; one that is lost, or stops since another one is, shows nothing."""
        views = [self._views[peer] for peer in self.workers if peer in self.leaving.present]
        for view in views:
            view.channel.post()
        stops = {view.peer: self.leaving.parcels[view.peer].listen() for view in views}
        pending = list(views)
        while pending:
            await self.transport.wait([*(one.channel for one in pending), *(stops[one.peer] for one in pending)])
            pending = [one for one in pending if not (one.channel.ready or stops[one.peer].ready)]
        self.seen = [view for view in views if view.channel.ready and taken(view)]

    def nodes(self, figures: Figures) -> dict[str, Any]:
        """Of each node, by the number of its worker: how far it is from the mean, and its figures on what validates."""
        found: dict[str, Any] = {}
        for view in self.seen:
            self._module.take(view.arena)
            distance = self._distances["distances"][self.seen.index(view)]
            found[str(view.peer)] = {"distance": distance, **figures(self._module.module)}
        return {"nodes": found, **self._distances}


def taken(view: View) -> bool:
    """Whether the node's weights are there."""
    try:
        view.channel.take()
    except PeerLost:
        return False
    return True


def average(mean: Arena, nodes: list[Arena]) -> dict[str, Any]:
    """Lay the mean of the nodes' weights and float buffers in `mean`; how far each is from it, by the 2-norm.

    `consensus` is the mean of these distances, `consensus_max` the largest one.
    """
    for name in ("vector", "buffers"):
        first: Tensor = getattr(nodes[0], name)
        found: Tensor = getattr(mean, name).copy_(first)
        for node in nodes[1:]:  # by differences, so that the mean of equal vectors is that vector to the last bit
            found.add_(getattr(node, name) - first, alpha=1 / len(nodes))
    distances = [float(torch.dist(node.vector, mean.vector)) for node in nodes]
    return {"consensus": sum(distances) / len(distances), "consensus_max": max(distances), "distances": distances}
