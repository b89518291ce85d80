"""Copy on write: a message that is leaving is never altered by a later step, and memory is used again."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnlo import Algo
from nnlo.comm.base import Channel, Send
from nnlo.comm.costs import Costs
from nnlo.comm.messages import Header, Kind
from nnlo.comm.virtual import Process, VirtualWorld
from nnlo.comm.virtual_collective import Done
from nnlo.comm.virtual_transport import VirtualChannel
from nnlo.flat import Arena, Layout
from nnlo.roles.centre import Centre
from tests.jobs import Rows, labelled, train_here

LAYOUT = Layout.of(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)))


class Leaving(Send):
    """A message on its way until it is told otherwise."""

    def __init__(self) -> None:
        self.gone = False

    @property
    def ready(self) -> bool:
        return self.gone


class Notes(Channel):
    """A channel that keeps what it was asked to send."""

    def __init__(self) -> None:
        self.sends: list[Leaving] = []

    @property
    def ready(self) -> bool:
        return False

    def post(self) -> None:
        """Nothing ever comes."""

    def take(self) -> Header:
        raise AssertionError("nothing came")

    def send_written(self, memory: torch.Tensor, nbytes: int) -> Leaving:
        assert nbytes == len(memory)
        self.sends.append(Leaving())
        return self.sends[-1]


class Made:
    """A centre that counts the arenas it asks for."""

    def __init__(self) -> None:
        self.arenas: list[Arena] = []
        self.centre = Centre(self.make)

    def make(self) -> Arena:
        nbytes = Arena.nbytes(LAYOUT, 1)
        self.arenas.append(Arena(LAYOUT, 1, torch.zeros(nbytes, dtype=torch.uint8)))
        return self.arenas[-1]

    def step(self, value: float) -> None:
        self.centre.writable().vector.fill_(value)

    def send(self, first: int = 0) -> tuple[Leaving, Arena]:
        """A reply leaves from the current memory; those of equal `first` have equal headers."""
        channel = Notes()
        self.centre.send_current(channel, Header(Kind.REPLY, nbytes=Arena.nbytes(LAYOUT, 1), first=first))
        (send,) = channel.sends
        return send, self.centre.arena


def test_without_messages_one_arena_is_enough() -> None:
    made = Made()
    for value in range(10):
        made.step(value)
    assert len(made.arenas) == 1


def test_a_step_leaves_what_is_being_sent_alone() -> None:
    made = Made()
    made.step(1.0)
    made.centre.writable().buffers.fill_(4.0)
    _, leaving = made.send()
    before = leaving.storage.clone()
    made.step(2.0)
    assert torch.equal(leaving.storage, before)
    assert made.centre.arena.vector.eq(2.0).all() and made.centre.arena is not leaving
    assert made.centre.arena.buffers.eq(4.0).all(), "all but the weights that the step wrote is taken over"


def test_memory_is_used_again_once_all_its_messages_have_left() -> None:
    made = Made()
    first, one = made.send()
    second, same = made.send()
    assert same is one, "a reply that says the same leaves from the same memory"
    made.step(1.0)
    third, two = made.send()
    first.gone = True
    made.step(2.0)
    assert len(made.arenas) == 3, "the second message of the first arena is still leaving"
    second.gone = third.gone = True
    made.send()
    made.step(3.0)
    assert len(made.arenas) == 3 and made.centre.arena in (one, two)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), max_size=60))
def test_any_order_of_steps_messages_and_departures(order: list[int]) -> None:
    """0 steps, 1 sends, others let a message go: each leaves with the weights that it was sent with."""
    made, value = Made(), 0
    leaving: list[tuple[Leaving, Arena, int]] = []
    most = 0
    for what in order:
        if what == 0:
            value += 1
            made.step(value)
        elif what == 1:
            leaving.append((*made.send(), value))
        elif leaving:
            send, _, _ = leaving.pop(what % len(leaving))
            send.gone = True
        assert made.centre.arena.vector.eq(value).all()
        for _, arena, then in leaving:
            assert arena.vector.eq(then).all()
        most = max(most, len({id(arena) for _, arena, _ in leaving}))
    assert len(made.arenas) <= most + 1


@pytest.mark.parametrize("options", [{}, {"synchronous": True}])
def test_no_reply_changes_on_its_way(options: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Over slow links; the memory of a message is looked at again when it has left."""
    sent: dict[Done, tuple[torch.Tensor, torch.Tensor]] = {}
    changed = []
    send, finish = VirtualChannel.send_written, Done.finish

    def sending(self: VirtualChannel, memory: torch.Tensor, nbytes: int) -> Send:
        leaving = send(self, memory, nbytes)
        sent[leaving] = memory[:nbytes], memory[:nbytes].clone()
        return leaving

    def finishing(self: Done, world: VirtualWorld, process: Process) -> None:
        there, then = sent.pop(self)
        if not torch.equal(there, then):
            changed.append(self)
        finish(self, world, process)

    monkeypatch.setattr(VirtualChannel, "send_written", sending)
    monkeypatch.setattr(Done, "finish", finishing)
    trained(options)
    assert changed == [] and len(sent) < 10


def trained(options: dict[str, bool]) -> None:
    costs = Costs(compute=1e-4, jitter=0.3, bandwidth=1e6)
    algo = Algo("sgd", lr=0.1, **options)
    make = lambda: nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Linear(16, 4))  # noqa: E731
    train_here(VirtualWorld(5, costs=costs), Rows(*labelled(200), 5), algo, make, epochs=2)
