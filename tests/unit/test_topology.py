"""Every world size up to 64 with every number of masters and processes: roles that fit, or a refusal that helps."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from functools import cache

import pytest

from nnlo.errors import OptionsError
from nnlo.topology import Role, Topology

MOST = 64
COUNTS = range(1, MOST + 1)
REFUSAL = re.compile(
    r"--n-masters (\d+) --n-processes (\d+): (\d+) ranks? do(?:es)? not divide into a .*: "
    r"start (\d+) or (\d+) \(every \d+ more will do\)"
)


def sizes_that_divide(masters: int, processes: int) -> list[int]:
    """Built up from what a job is made of, to a little beyond MOST."""
    bosses = max(1, masters - 1)  # those with workers of their own
    return [masters + bosses * workers * processes for workers in range(1, MOST + 2)]


@cache
def accepted(masters: int) -> list[Topology]:
    """All that there are up to MOST ranks."""
    return [
        Topology.of(size, masters, processes)
        for processes in COUNTS
        for size in sizes_that_divide(masters, processes)
        if size <= MOST
    ]


def told(size: int, masters: int, processes: int) -> tuple[int, int]:
    """The two sizes that a refusal names."""
    with pytest.raises(OptionsError) as refused:
        Topology.of(size, masters, processes)
    named = REFUSAL.fullmatch(str(refused.value))
    assert named, refused.value
    asked, given, ranks, first, second = map(int, named.groups())
    assert (asked, given, ranks) == (masters, processes, size)
    return first, second


@pytest.mark.parametrize("masters", COUNTS)
def test_sizes_divide_or_are_refused_with_the_nearest_that_do(masters: int) -> None:
    for processes in COUNTS:
        good = sizes_that_divide(masters, processes)
        for size in COUNTS:
            place = bisect_left(good, size)
            if good[place] == size:
                assert Topology.of(size, masters, processes).size == size
            else:
                assert told(size, masters, processes) == (good[max(0, place - 1)], good[max(1, place)])


@pytest.mark.parametrize("masters", COUNTS)
def test_no_rank_is_left_over(masters: int) -> None:
    for topology in accepted(masters):
        assert [node.rank for node in topology.nodes] == list(range(topology.size))
        roles = Counter(node.role for node in topology.nodes)
        assert roles[Role.HEAD] == 1 and topology.nodes[0].role is Role.HEAD
        assert roles[Role.MASTER] == masters - 1
        assert roles[Role.WORKER] == topology.workers == (topology.size - masters) // topology.processes
        assert roles[Role.MEMBER] == topology.workers * (topology.processes - 1)


@pytest.mark.parametrize("masters", COUNTS)
def test_parents_and_children_are_one_tree(masters: int) -> None:
    above = {
        Role.MEMBER: {Role.WORKER},
        Role.WORKER: {Role.MASTER if masters > 1 else Role.HEAD},
        Role.MASTER: {Role.HEAD},
    }
    for topology in accepted(masters):
        for node in topology.nodes:
            assert node.children == tuple(other.rank for other in topology.nodes if other.parent == node.rank)
            assert (node.parent is None) == (node.role is Role.HEAD)
            assert node.parent is None or topology.nodes[node.parent].role in above[node.role]
            assert node.parent is None or node.parent < node.rank
        bosses = [node for node in topology.nodes if node.role is Role.MASTER] or [topology.nodes[0]]
        assert len({len(boss.children) for boss in bosses}) == 1


@pytest.mark.parametrize("masters", COUNTS)
def test_workers_are_teams_of_consecutive_ranks(masters: int) -> None:
    for topology in accepted(masters):
        trainers = [node for node in topology.nodes if node.worker]
        assert Counter(node.worker for node in trainers) == dict.fromkeys(
            range(1, topology.workers + 1), topology.processes
        )
        for node in trainers:
            assert node.team == tuple(other.rank for other in topology.nodes if other.worker == node.worker)
            assert node.team == tuple(range(node.team[0], node.team[0] + topology.processes)) and node.rank in node.team
            assert (node.role is Role.WORKER) == (node.rank == node.team[0])
        assert [node.worker for node in trainers] == sorted(node.worker for node in trainers)
        assert topology.leads == tuple(node.rank for node in trainers if node.role is Role.WORKER)
        assert all(node.team == () for node in topology.nodes if not node.worker)
        first = [node for node in topology.nodes if node.rank == (node.team or (node.rank,))[0]]
        assert [(node.role, node.worker) for node in topology.crew.nodes] == [
            (node.role, node.worker) for node in first
        ]


@pytest.mark.parametrize("masters", COUNTS)
def test_a_master_and_those_below_it_are_consecutive(masters: int) -> None:
    for topology in accepted(masters) if masters > 1 else []:
        for master in topology.nodes[0].children:
            leads = topology.nodes[master].children
            ranks = [master, *(rank for lead in leads for rank in topology.nodes[lead].team)]
            assert ranks == list(range(master, master + len(ranks)))


def test_eleven_ranks_as_the_module_draws_them() -> None:
    letters = {Role.HEAD: "H", Role.MASTER: "M", Role.WORKER: "w", Role.MEMBER: "."}
    nodes = Topology.of(11, masters=3, processes=2).nodes
    assert "".join(letters[node.role] for node in nodes) == "HMw.w.Mw.w."
    assert [node.parent for node in nodes] == [None, 0, 1, 2, 1, 4, 0, 6, 7, 6, 9]
    assert [node.worker for node in nodes] == [0, 0, 1, 1, 2, 2, 0, 3, 3, 4, 4]


@pytest.mark.parametrize(("masters", "processes", "flag"), [
    (0, 1, "--n-masters"), (-1, 1, "--n-masters"), (True, 1, "--n-masters"), ("2", 1, "--n-masters"),
    (1, 0, "--n-processes"), (1, 2.0, "--n-processes"), (1, None, "--n-processes"),
])  # fmt: skip
def test_what_is_no_count_is_refused(masters: object, processes: object, flag: str) -> None:
    with pytest.raises(OptionsError, match=f"{flag} must be a whole number, at least 1, not"):
        Topology.of(9, masters, processes)  # type: ignore[arg-type]


def test_the_message_of_one_rank_too_many() -> None:
    with pytest.raises(OptionsError) as refused:
        Topology.of(8, masters=3, processes=2)
    assert str(refused.value) == (
        "--n-masters 3 --n-processes 2: 8 ranks do not divide into a head and 2 masters with equal numbers of workers "
        "of 2 ranks each: start 7 or 11 (every 4 more will do)"
    )
