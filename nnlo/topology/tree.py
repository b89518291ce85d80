"""World size to roles: one master or a head of masters, and workers that are teams of ranks.

Rank 0 is the master. With K > 1 masters it is their head, and the other ranks are K - 1 equal blocks of consecutive
ranks: a master, then its workers, each a team of P consecutive ranks whose first one leads it. Launchers fill a node
before they go on to the next, so a team shares a node, and so does a block that fits into one: what a block's workers
send stays there, and one message for all of them travels to the head. With 11 ranks, K = 3 and P = 2:

    0 head   1 master: teams 2 3, 4 5   6 master: teams 7 8, 9 10

A size that leaves a rank over is refused, and so is one that gives masters unlike shares: what a master's word
weighs at the head, and how long the head waits for it, would depend on its rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from nnlo.errors import OptionsError


class Role(Enum):
    """What a rank does."""

    HEAD = "head"  # rank 0: the master, or the head of masters
    MASTER = "master"  # stands between the head and its own workers
    WORKER = "worker"  # trains; the lead of a team where workers are teams
    MEMBER = "member"  # computes for the lead of its team


@dataclass(frozen=True)
class Node:
    """One rank's place: whom it answers to (None on rank 0), and who answer to it.

    `worker` is the number of the worker that it is or belongs to, from 1 (0: a master); `team` are the ranks of that
    worker, its lead first.
    """

    rank: int
    role: Role
    parent: int | None
    children: tuple[int, ...]
    worker: int = 0
    team: tuple[int, ...] = ()


@dataclass(frozen=True)
class Topology:
    """The places of all ranks, by rank."""

    masters: int
    processes: int
    nodes: tuple[Node, ...]

    @classmethod
    def of(cls, size: int, masters: int = 1, processes: int = 1) -> Topology:
        """`size` ranks with so many masters, the head among them, and processes a worker.

        Raises OptionsError with the sizes that divide where this one does not.
        """
        check_counts(masters, processes)
        if not divides(size, masters, processes):
            raise OptionsError(refusal(size, masters, processes))
        return cls(masters, processes, tuple(places(size, masters, processes)))

    @staticmethod
    def least(masters: int, processes: int) -> int:
        """The smallest size that divides: every master has one worker."""
        return masters + step(masters, processes)

    def __str__(self) -> str:
        """In words: "a master and 4 workers"."""
        masters = f"a head of {number(self.masters - 1, 'master')}" if self.masters > 1 else "a master"
        each = f" of {self.processes} ranks" if self.processes > 1 else ""
        return f"{masters} and {number(self.workers, 'worker')}{each}"

    @property
    def size(self) -> int:
        return len(self.nodes)

    @property
    def workers(self) -> int:
        return len(self.leads)

    @property
    def behind(self) -> int:
        """The workers of each master under the head; 0 where all workers are rank 0's own."""
        return self.workers // (self.masters - 1) if self.masters > 1 else 0

    @cached_property
    def leads(self) -> tuple[int, ...]:
        """The ranks that stand for a worker, in the order of their numbers."""
        return tuple(node.rank for node in self.nodes if node.role is Role.WORKER)

    @cached_property
    def crew(self) -> Topology:
        """The places of those who exchange with one another, all but the members of teams, numbered anew."""
        return Topology.of(self.masters + self.workers, self.masters)


def places(size: int, masters: int, processes: int) -> list[Node]:
    """Each rank's place, in the order of ranks."""
    blocks, relayed = max(1, masters - 1), masters > 1
    length = (size - 1) // blocks
    starts = range(1, size, length)
    leads = {start: tuple(range(start + relayed, start + length, processes)) for start in starts}
    nodes = [Node(0, Role.HEAD, None, tuple(starts) if relayed else leads[1])]
    worker = 0
    for start, own in leads.items():
        nodes += [Node(start, Role.MASTER, 0, own)] if relayed else []
        for lead in own:
            worker += 1
            nodes += team_of(lead, processes, start if relayed else 0, worker)
    return nodes


def team_of(lead: int, processes: int, parent: int, worker: int) -> list[Node]:
    """The places of one worker's ranks."""
    team = tuple(range(lead, lead + processes))
    members = [Node(rank, Role.MEMBER, lead, (), worker, team) for rank in team[1:]]
    return [Node(lead, Role.WORKER, parent, team[1:], worker, team), *members]


def check_counts(masters: object, processes: object) -> None:
    """Raises OptionsError for what is no count."""
    for flag, count in (("--n-masters", masters), ("--n-processes", processes)):
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise OptionsError(f"{flag} must be a whole number, at least 1, not {count!r}")


def step(masters: int, processes: int) -> int:
    """From one size that divides to the next: one more worker for every master that has workers."""
    return max(1, masters - 1) * processes


def divides(size: int, masters: int, processes: int) -> bool:
    return size >= Topology.least(masters, processes) and (size - masters) % step(masters, processes) == 0


def refusal(size: int, masters: int, processes: int) -> str:
    """Why a size does not divide, and the nearest ones that do."""
    first, more = Topology.least(masters, processes), step(masters, processes)
    below = (size - first) // more * more + first
    fit = [below, below + more] if size > first else [first, first + more]
    several = f"a head and {number(masters - 1, 'master')} with {'equal numbers of ' * (masters > 2)}workers"
    parts = several if masters > 1 else "a master and workers"
    each = f" of {processes} ranks each" if processes > 1 else ""
    ranks = "1 rank does" if size == 1 else f"{size} ranks do"
    what = f"--n-masters {masters} --n-processes {processes}: {ranks} not divide into {parts}{each}"
    return f"{what}: start {fit[0]} or {fit[1]} (every {more} more will do)"


def number(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
