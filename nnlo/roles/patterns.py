"""Which roles run an algorithm: by the pattern that it declares, never by its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias

from nnlo.algos import Pattern
from nnlo.comm.base import Transport
from nnlo.roles.chair import Chair
from nnlo.roles.gossip import GossipRounds
from nnlo.roles.gossip_chair import GossipChair
from nnlo.roles.master import Master
from nnlo.roles.peer import CollectiveRounds, Peer
from nnlo.roles.pipelined import worker_of
from nnlo.roles.setup import Setup
from nnlo.roles.worker import Worker
from nnlo.training.job import Job

AtRankZero: TypeAlias = Master | Chair


class Roles(NamedTuple):
    """What rank 0 does, and what the others do."""

    rank_zero: type[Master] | type[Chair]
    other: Callable[[Transport, Job, Setup], Worker | Peer]


ROLES: dict[Pattern, Roles] = {
    Pattern.SERVER: Roles(Master, worker_of),
    Pattern.COLLECTIVE: Roles(Chair, partial(Peer, CollectiveRounds)),
    Pattern.GOSSIP: Roles(GossipChair, partial(Peer, GossipRounds)),
}
