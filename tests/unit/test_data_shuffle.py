"""The order of an epoch's samples, and where in which file they are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlo.data.base import Data
from nnlo.data.index import Index
from nnlo.data.shuffle import InOrder, Shuffle

sizes = {"samples": st.integers(1, 200), "batch": st.integers(1, 30), "buffer": st.integers(1, 250)}


def batches(order, epoch):
    """The sample numbers of each batch."""
    return [
        [order.bounds(piece.block)[0] + row for piece in order.batch_pieces(epoch, k) for row in piece.rows.tolist()]
        for k in range(order.batches)
    ]


def flat(lists):
    return [one for some in lists for one in some]


@given(seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 100), **sizes)
def test_an_epoch_is_a_permutation_in_slices(samples, batch, buffer, seed, epoch):
    found = batches(Shuffle(samples, batch, buffer, seed), epoch)
    assert sorted(flat(found)) == list(range(samples))
    assert [len(one) for one in found] == [batch] * (samples // batch) + ([samples % batch] if samples % batch else [])


@given(seed=st.integers(0, 1000), **sizes)
def test_a_batch_is_a_pure_function_of_seed_and_epoch(samples, batch, buffer, seed):
    whole = batches(Shuffle(samples, batch, buffer, seed), 3)
    other = Shuffle(samples, batch, buffer, seed)
    for k in reversed(range(other.batches)):
        other.batch_pieces(k, 0)
        pieces = other.batch_pieces(3, k)
        assert [other.bounds(p.block)[0] + row for p in pieces for row in p.rows.tolist()] == whole[k]


@given(seed=st.integers(0, 1000), epoch=st.integers(0, 9), **sizes)
def test_samples_stay_in_their_blocks(samples, batch, buffer, seed, epoch):
    order = flat(batches(Shuffle(samples, batch, buffer, seed), epoch))
    blocks = [one // buffer for one in order]
    changes = sum(a != b for a, b in pairwise(blocks))
    assert changes == len(set(blocks)) - 1


def test_epochs_and_seeds_differ():
    first = batches(Shuffle(1000, 10, 100, 1), 0)
    assert first != batches(Shuffle(1000, 10, 100, 1), 1)
    assert first != batches(Shuffle(1000, 10, 100, 2), 0)
    assert first[0] != sorted(first[0])
    blocks = [[one[0] // 100 for one in batches(Shuffle(1000, 10, 100, 1), epoch)[::10]] for epoch in (0, 1)]
    assert blocks[0] != blocks[1] and list(range(10)) not in blocks


def test_the_order_of_old_runs_stays():
    """A checkpoint names batches by their numbers: another order would train samples twice."""
    assert batches(Shuffle(11, 4, 6, 5), 2) == [[6, 9, 7, 10], [8, 1, 5, 3], [4, 2, 0]]


@given(**sizes)
def test_in_order(samples, batch, buffer):
    order = InOrder.of(samples, batch, buffer)
    assert flat(batches(order, 0)) == flat(batches(order, 7)) == list(range(samples))
    assert all(len(order.batch_pieces(0, k)) == 1 for k in range(order.batches))
    assert order.buffer <= max(buffer, batch)
    assert {len(one) for one in batches(order, 0)[:-1]} <= {batch}


class Numbers(Data):
    """Files named by their samples' range: '3:5' holds 3 and 4."""

    def load_data(self, file):
        begin, end = map(int, file.split(":"))
        x = np.arange(begin, end)
        return [x, -x], x


def numbered(counts):
    ends = np.cumsum([0, *counts])
    return Index.of([f"{a}:{b}" for a, b in pairwise(ends)], counts)


@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), data=st.data())
def test_an_index_finds_every_sample(counts, data):
    index = numbered(counts)
    assert index.samples == sum(counts) and index.largest == max(counts)
    start = data.draw(st.integers(0, index.samples - 1))
    stop = data.draw(st.integers(start + 1, index.samples))
    parts = list(index.parts(start, stop))
    assert all(0 <= low < high <= counts[index.files.index(file)] for file, low, high in parts)
    (x, minus), y = index.read(Numbers(1), start, stop)
    assert x.tolist() == y.tolist() == (-minus).tolist() == list(range(start, stop))


def test_nothing_is_in_an_empty_stretch():
    assert list(numbered([2, 0, 3]).parts(2, 2)) == []
    assert Index.of([], []).samples == 0 == Index.of([], []).largest


@pytest.mark.parametrize("wanted", [6, 7])
def test_samples_beyond_the_end_are_a_defect(wanted):
    with pytest.raises(IndexError):
        list(numbered([2, 3]).parts(0, wanted))
