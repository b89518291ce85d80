"""Blocks that a thread reads ahead of use: how many, in bounded memory, without changing what is trained."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnlo import Algo, Data, H5Data
from nnlo.comm.virtual import VirtualWorld
from nnlo.data import blocks
from nnlo.data.blocks import KEPT_BLOCKS
from nnlo.data.dealing import UNBOUNDED, Dealer, Range
from nnlo.data.feed import SampleFeed
from nnlo.data.index import Index
from nnlo.data.shuffle import InOrder, Shuffle
from nnlo.errors import DataError, OptionsError
from tests.jobs import Rows, labelled, same_bits, train_here


class InMemory(Data):
    """File i holds the i-th of `counts` samples, numbered through; notes what is loaded, and on which thread."""

    def __init__(self, counts, preloading, batch=5):
        super().__init__(batch)
        self.preloading, self.loaded, self.on = preloading, [], set()
        self.parts = [np.arange(a, b) for a, b in pairwise(np.cumsum([0, *counts]))]

    def load_data(self, file):
        self.loaded.append(int(file))
        self.on.add(threading.current_thread().name.partition("_")[0])
        return self.parts[int(file)].astype(np.float32), self.parts[int(file)]

    def feed(self, order):
        counts = [len(part) for part in self.parts]
        return SampleFeed(self, Index.of([str(i) for i in range(len(counts))], counts), order, torch.float32)


def settle(feed):
    """Wait for what is being read ahead."""
    for future in feed._blocks._kept.values():
        future.exception()


@pytest.mark.parametrize("preloading", [0, 1, 3])
def test_so_many_blocks_are_read_ahead(preloading):
    data = InMemory([20] * 8, preloading)
    feed = data.feed(InOrder.of(160, 5, 20))
    feed.read(0, 0)
    feed.expect([Range(0, 1, UNBOUNDED)])
    settle(feed)
    assert data.loaded == list(range(1 + preloading))
    assert data.on == {"preloading" if preloading else "MainThread"}


@pytest.mark.parametrize("preloading", [1, 3])
def test_nothing_is_read_twice(preloading):
    """What was read ahead stays until it is used."""
    data = InMemory([20] * 8, preloading)
    feed = data.feed(InOrder.of(160, 5, 20))
    for k in range(32):
        assert feed.read(0, k).y.tolist() == list(range(5 * k, 5 * k + 5))
        feed.expect([Range(0, k + 1, 31 - k)])
    assert data.loaded == list(range(8))


def test_only_what_was_dealt_is_read_ahead():
    data = InMemory([20] * 8, 3)
    feed = data.feed(InOrder.of(160, 5, 20))
    feed.read(0, 0)
    feed.expect([Range(0, 1, 3), Range(0, 20, 4)])
    settle(feed)
    assert data.loaded == [0, 5]


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any),
    buffer=st.integers(1, 40),
    preloading=st.integers(0, 4),
    shuffled=st.booleans(),
)
def test_the_batches_are_the_same(counts, buffer, preloading, shuffled):
    samples = sum(counts)
    order = Shuffle(samples, 5, buffer, 1) if shuffled else InOrder.of(samples, 5, buffer)
    plain, ahead = InMemory(counts, 0).feed(order), InMemory(counts, preloading).feed(order)
    for epoch in (0, 1):
        for k in range(order.batches):
            wanted, found = plain.read(epoch, k), ahead.read(epoch, k)
            ahead.expect([Range(epoch, k + 1, order.batches - k - 1), Range(epoch + 1, 0, order.batches)])
            assert torch.equal(wanted.y, found.y) and torch.equal(wanted.x, found.x)
    assert len(ahead._blocks._kept) <= KEPT_BLOCKS + preloading


def test_memory_is_bounded_by_the_blocks_ahead(monkeypatch):
    made, real = [], blocks.Slot.like
    monkeypatch.setattr(
        blocks.Slot, "like", lambda samples, size, dtype: made.append(size) or real(samples, size, dtype)
    )
    feed = InMemory([10] * 60, 3).feed(Shuffle(600, 5, 20, 0))
    for k in range(120):
        feed.read(0, k)
        feed.expect([Range(0, k + 1, 119 - k)])
    assert made == [20] * (KEPT_BLOCKS + 3)


@given(samples=st.integers(1, 200), buffer=st.integers(1, 90), first=st.integers(0, 40), count=st.integers(0, 40))
def test_the_blocks_of_a_range(samples, buffer, first, count):
    for order in (Shuffle(samples, 5, buffer, 1), InOrder.of(samples, 5, buffer)):
        batches = range(first, min(first + count, order.batches))
        wanted = [piece.block for k in batches for piece in order.batch_pieces(2, k)]
        assert list(order.blocks_of(Range(2, first, count))) == list(dict.fromkeys(wanted))


def test_a_file_that_cannot_be_read_ahead_is_told_when_it_is_due():
    data = InMemory([20] * 4, 2)
    data.parts[1] = data.parts[1].astype(str)
    feed = data.feed(InOrder.of(80, 5, 20))
    data.load_data = lambda file, real=data.load_data: fail(file) if file == "1" else real(file)
    for k in range(4):
        feed.read(0, k)
        feed.expect([Range(0, k + 1, 99)])
    with pytest.raises(DataError, match="file 1 is gone"):
        feed.read(0, 4)
    assert feed.read(0, 8).y.tolist() == [40, 41, 42, 43, 44]


def fail(file):
    raise DataError(f"file {file} is gone")


class Gate(nn.Module):
    """In its third training batch it waits for `event`."""

    def __init__(self, event):
        super().__init__()
        self.event, self.batches, self.came, self.linear = event, 0, None, nn.Linear(1, 1)

    def forward(self, x):
        if self.training:
            self.batches += 1
            if self.batches == 3:
                self.came = self.event.wait(20)
        return self.linear(x[:, None])[:, 0]


class Opens(InMemory):
    """Opens the gate once three blocks were read, of which the batches before the gate need one."""

    event: threading.Event

    def load_data(self, file):
        loaded = super().load_data(file)
        if threading.current_thread().name.startswith("reading"):
            self.begun = {*getattr(self, "begun", ()), file}
            if len(self.begun) == 3:
                self.event.set()
        return loaded


def test_workers_read_ahead_while_they_train():
    data = Opens([40] * 10, 2)
    data.event = threading.Event()
    files = [str(i) for i in range(10)]
    gates = []
    algo = Algo("sgd", lr=1e-6, loss="mse", metrics=())
    train_here(
        None, data, algo, lambda: gates.append(Gate(data.event)) or gates[-1], train_list=files, shuffle_buffer=40
    )
    assert [gate.came for gate in gates if gate.batches] == [True]


@pytest.mark.parametrize("synchronous", [False, True])
@pytest.mark.parametrize("ranks", [None, 4])
def test_what_is_trained_stays_the_same(ranks, synchronous):
    """With one worker, or in step, to the last bit."""

    def run(preloading):
        data = Rows(*labelled(300), 5)
        data.preloading = preloading
        algo = Algo("sgd", lr=0.1, synchronous=synchronous)
        comm = VirtualWorld(ranks) if ranks else None
        return train_here(comm, data, algo, lambda: nn.Linear(8, 4), epochs=3, shuffle_buffer=30, val=data)

    plain, ahead = run(0), run(3)
    assert plain.last["samples"] == ahead.last["samples"] == 900
    if synchronous or ranks is None:
        assert same_bits(plain.state, ahead.state) and plain.last["val_loss"] == ahead.last["val_loss"]


def test_workers_hold_batches_beforehand_but_not_at_an_epochs_end():
    dealer = Dealer([100], [1, 2], 1, grain=10, unit=1, synchronous=False, most_ahead=20)
    assert dealer.ahead(1) == 20
    held = []
    while dealer.pools[0].next < 90:
        held.append(dealer.ahead(1))
        dealer.grant(1)
    assert held == sorted(held, reverse=True) and dealer.ahead(1) == dealer.ahead(2) <= 2
    assert Dealer([100], [1], 1, grain=10, unit=1, synchronous=False).ahead(1) == 0


@pytest.mark.parametrize("preloading", [-1, 1.5, "2", None])
def test_impossible_numbers(preloading):
    with pytest.raises(OptionsError, match="--preload-data must be a whole number, at least 0"):
        H5Data(1, preloading=preloading)


def test_a_generator_preloads_itself():
    class Own(H5Data):
        def generate_data(self):
            yield labelled(3)

    with pytest.raises(OptionsError, match="--preload-data is not for it"):
        train_here(VirtualWorld(2), Own(3, preloading=1), Algo("sgd"), lambda: nn.Linear(8, 4))
