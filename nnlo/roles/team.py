"""The ranks of one worker: a lead and members that compute a part of every batch each."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nnlo.comm.base import Source, Transport
from nnlo.comm.torch_group import Collectives, TorchGroup, meet
from nnlo.errors import PeerLost
from nnlo.topology import Node, Role
from nnlo.training.job import Job

LEAD = 0


class Team:
    """What the ranks of `transport` share and add up, by way of `collectives`."""

    def __init__(self, transport: Transport, collectives: Collectives) -> None:
        self.transport, self._collectives = transport, collectives

    @property
    def leads(self) -> bool:
        """Whether this rank does."""
        return self.transport.rank == LEAD

    def part(self, samples: int) -> slice:
        """This rank's rows of a batch: nearly equal numbers, the lead's the largest, so that it always has one."""
        ends = [-(-place * samples // self.transport.size) for place in (self.transport.rank, self.transport.rank + 1)]
        return slice(*ends)

    async def share(self, memories: Sequence[Tensor]) -> None:
        """Everyone gets what the lead's memories hold."""
        await self._all([self._collectives.broadcast(memory, LEAD) for memory in memories])

    async def add_up(self, memories: Sequence[Tensor]) -> None:
        """Each memory becomes the sum over the team."""
        await self._all([self._collectives.allreduce(memory) for memory in memories])

    async def _all(self, sources: Sequence[Source]) -> None:
        """Raises PeerLost on members; a lead that has lost one is lost itself."""
        try:
            while under_way := [source for source in sources if not source.ready]:
                await self.transport.wait(under_way)
        except PeerLost as lost:
            if self.leads:
                await self.transport.perish(f"rank {lost.peer} of its team is lost")
            raise

    def close(self) -> None:
        """Nothing more is shared; every rank of the team does it."""
        if isinstance(self._collectives, TorchGroup):
            self._collectives.close()


async def form_team(transport: Transport, job: Job, node: Node) -> Team | None:
    """This rank's team, None where it has none; every rank of the job calls it. Raises OptionsError on all alike."""
    if job.topology.processes == 1:
        return None
    group = await transport.split(node.worker or None)
    collectives: Collectives | None = group
    if job.team_backend != "mpi":
        collectives = await meet(transport, group, job.team_backend)
    return Team(group, collectives) if group and collectives else None


async def form_crew(transport: Transport, job: Job, node: Node) -> Transport | None:
    """The group of all but the members of teams, None for those; every rank of the job calls it."""
    if job.topology.processes == 1:
        return transport
    crew = await transport.split(None if node.role is Role.MEMBER else 0)
    if crew is not None:
        crew.trace = transport.trace
    return crew
