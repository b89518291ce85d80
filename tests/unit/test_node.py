"""Ranks of one host, here in one process: who may join, what wakes, what is said of those who are gone."""

from __future__ import annotations

import gc
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nnlo.comm.link import INLINE, RING
from nnlo.comm.node import GREETING, Node, channel_name
from nnlo.comm.segments import Bytes
from nnlo.errors import ProtocolError

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no memfd_create")


class Box:
    """Keeps what the node tells."""

    def __init__(self) -> None:
        self.memory: Bytes | None = None
        self.messages: list[tuple[int, bytes | Tensor, int]] = []
        self.gone = False

    def lost(self) -> None:
        self.gone = True

    def opened(self, memory: Bytes) -> None:
        self.memory = memory

    def rung(self, kind: int, payload: bytes | Tensor, nbytes: int) -> None:
        self.messages.append((kind, payload, nbytes))


@pytest.fixture
def nodes() -> Iterator[tuple[Node, Node]]:
    token = os.urandom(8).hex()
    pair = Node(token, 0, frozenset({0, 1})), Node(token, 1, frozenset({0, 1}))
    yield pair
    for node in pair:
        node.close()


def opened(nodes: tuple[Node, Node]) -> tuple[Box, Box]:
    """A channel between the two, whose ends know of each other."""
    boxes = Box(), Box()
    for node, box, peer in zip(nodes, boxes, (1, 0), strict=True):
        node.open(7, box, peer, node.storage(100).fill_(1 + peer), 100)
    while not all(box.memory is not None for box in boxes):
        for node in nodes:
            node.wait(0.01)
    return boxes


def knock(node: Node, words: bytes) -> bool:
    """Whether who comes and says this is let in."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.connect(node._address(node.rank))
        if words:
            stranger.send(words)
        node.wait(0)
        stranger.settimeout(0.05)
        try:
            return stranger.recv(1) != b""
        except TimeoutError:
            return True


def test_ends_of_a_channel_see_each_others_memory(nodes: tuple[Node, Node]) -> None:
    first, second = opened(nodes)
    assert first.memory is not None and second.memory is not None
    assert (first.memory == 1).all() and (second.memory == 2).all()


def test_a_channel_is_opened_once(nodes: tuple[Node, Node]) -> None:
    opened(nodes)
    with pytest.raises(ProtocolError, match="rank 0 opens a channel to rank 1 twice"):
        nodes[0].open(7, Box(), 1, nodes[0].storage(100), 100)


@pytest.mark.parametrize("words", [b"", b"hi", GREETING.pack(5), GREETING.pack(0)])
def test_strangers_are_not_let_in(words: bytes, nodes: tuple[Node, Node]) -> None:
    began = time.monotonic()
    assert not knock(nodes[0], words)
    assert time.monotonic() - began < 5
    opened(nodes)


def test_nobody_comes_twice(nodes: tuple[Node, Node]) -> None:
    opened(nodes)
    assert not knock(nodes[0], GREETING.pack(1))


def test_a_thread_wakes_who_waits(nodes: tuple[Node, Node]) -> None:
    threading.Timer(0.05, nodes[0].wake).start()
    began = time.monotonic()
    nodes[0].wait(20.0)
    assert 0.04 < time.monotonic() - began < 10
    nodes[0].close()
    nodes[0].wake()


def test_who_is_gone_is_told_of_once(nodes: tuple[Node, Node]) -> None:
    boxes = opened(nodes)
    link = nodes[0].link(1)
    assert link.connection is not None and nodes[1].link(0).connection is not None
    nodes[1].link(0).connection.close()
    ended: list[int] = []
    nodes[0].ended = ended.append
    for _ in range(3):
        link.say(b"x")
        nodes[0].wait(0)
    assert ended == [1] and not link.gone
    nodes[0].lose(1)
    link.say(b"x")
    assert link.gone and [box.gone for box in boxes] == [True, False]
    late = Box()
    nodes[0].listen(8, late, 1)
    assert late.gone


def test_what_a_rank_said_before_it_died_is_heard_first(nodes: tuple[Node, Node]) -> None:
    boxes = opened(nodes)
    nodes[0].ended = nodes[0].lose
    nodes[1].link(0).say(RING.pack(INLINE, 7, 0, 0, 4) + b"last")
    connection = nodes[1].link(0).connection
    assert connection is not None
    connection.close()
    nodes[0].wait(1)
    assert len(boxes[0].messages) == 1 and not boxes[0].gone
    nodes[0].wait(1)
    assert boxes[0].gone


def test_a_closed_node_gives_its_memory_back() -> None:
    gc.collect()
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        token = os.urandom(8).hex()
        pair = Node(token, 0, frozenset({0, 1})), Node(token, 1, frozenset({0, 1}))
        opened(pair)
        for node in pair:
            node.close()
        del pair, node
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


def test_names_are_of_a_group_two_ranks_and_a_tag() -> None:
    names = {
        channel_name(group, low, high, tag)
        for group in ((), (0, 1))
        for low, high in ((0, 1), (1, 2))
        for tag in (1, 2)
    }
    assert len(names) == 8 and channel_name((), 0, 1, 1) in names
    assert torch.iinfo(torch.int64).max * 2 + 1 >= max(names)
