"""Collectives in shared memory, between ranks in one process whose messages are taken in when the test says so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from nnlo.comm.base import Source
from nnlo.comm.node import Node
from nnlo.comm.shared_group import SharedGroup, slices

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no memfd_create")


RANKS = (0, 1, 2)


@pytest.fixture
def groups() -> Iterator[list[SharedGroup]]:
    token = os.urandom(8).hex()
    nodes = [Node(token, rank, frozenset(RANKS)) for rank in RANKS]
    made = [SharedGroup(node, RANKS, ("group",)) for node in nodes]
    for group in made:
        hear(group)
    yield made
    for node in nodes:
        node.close()


def hear(group: SharedGroup) -> None:
    """Take in all that was said to this rank."""
    for _ in range(20):
        group.node.wait(0)


def vector(group: SharedGroup, value: float) -> Tensor:
    return group.node.storage(64 * 4).view(torch.float32).fill_(value)


def test_a_sum_stays_for_the_slow_though_they_are_done_with_what_came_later(groups: list[SharedGroup]) -> None:
    """Rank 1 has all that it gathers, tells so with its next sum, and has not copied rank 0's part of the first one."""
    first, last = ([vector(group, value) for group in groups] for value in (1.0, 100.0))
    rows = [torch.zeros(3, 2) for _ in groups]
    sums: list[Source] = [group.allreduce(memory) for group, memory in zip(groups, first, strict=True)]
    hear(groups[0])
    gathered = [group.gather_all(torch.full((2,), 7.0), every) for group, every in zip(groups, rows, strict=True)]
    hear(groups[1])
    assert gathered[1].ready and not sums[1].ready
    sums.append(groups[1].allreduce(last[1]))
    hear(groups[2])
    sums.append(groups[2].allreduce(last[2]))
    hear(groups[0])
    sums.append(groups[0].allreduce(last[0]))
    for group in (*reversed(groups), *groups, *groups):
        hear(group)
    assert all(source.ready for source in (*sums, *gathered))
    assert [memory.unique().tolist() for memory in first] == [[3.0]] * 3
    assert [memory.unique().tolist() for memory in last] == [[300.0]] * 3
    assert all(every.eq(7.0).all() for every in rows)


def test_memory_is_used_again(groups: list[SharedGroup]) -> None:
    made = set()
    for _ in range(20):
        under_way = [group.allreduce(torch.ones(64)) for group in groups]
        while not all(source.ready for source in under_way):
            for group in groups:
                hear(group)
        made.add(tuple(group.node.segments._made for group in groups))
    assert len(made) <= 3, "no more is made once a few are there"


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 1000])
def test_slices_make_up_the_vector(count: int, ranks: int) -> None:
    found = slices(count, ranks)
    assert len(found) == ranks and found[0][0] == 0 and found[-1][1] == count
    assert all(start <= stop for start, stop in found)
    assert all(before[1] == after[0] for before, after in pairwise(found))
