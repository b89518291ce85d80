"""Which roles run an algorithm: by the pattern that it declares, never by its name."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from nnlo.algos import Pattern
from nnlo.roles.chair import Chair
from nnlo.roles.master import Master
from nnlo.roles.peer import Peer
from nnlo.roles.worker import Worker

AtRankZero: TypeAlias = Master | Chair


class Roles(NamedTuple):
    """What rank 0 does, and what the others do."""

    rank_zero: type[Master] | type[Chair]
    other: type[Worker] | type[Peer]


ROLES: dict[Pattern, Roles] = {
    Pattern.SERVER: Roles(Master, Worker),
    Pattern.COLLECTIVE: Roles(Chair, Peer),
}
