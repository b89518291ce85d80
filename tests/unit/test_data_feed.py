"""Feeds: batches as tensors, of the model's type, from a bounded memory."""

from __future__ import annotations

import threading
from functools import partial
from itertools import pairwise

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnlo.comm.local import LocalWorld
from nnlo.comm.virtual import VirtualWorld
from nnlo.data import blocks
from nnlo.data.base import Data
from nnlo.data.blocks import KEPT_BLOCKS, stored_type
from nnlo.data.dealing import UNBOUNDED, Range
from nnlo.data.feed import Feed, GeneratorFeed, SampleFeed, as_batch
from nnlo.data.h5 import H5Data
from nnlo.data.index import Index
from nnlo.data.shuffle import InOrder, Shuffle
from nnlo.errors import DataError
from nnlo.roles.prefetch import DEPTH, Prefetch


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class InMemory(Data):
    """Files named by numbers, with the samples of `arrays[number]`; remembers what was loaded."""

    def __init__(self, batch, arrays):
        super().__init__(batch)
        self.arrays, self.loaded = arrays, []

    def load_data(self, file):
        self.loaded.append(int(file))
        return self.arrays[int(file)]

    def index(self):
        files = [str(i) for i in range(len(self.arrays))]
        return Index.of(files, [self.count_file(file) for file in files])


def numbered(counts, x=lambda n: n.astype(np.float32), y=lambda n: n):
    """Files whose samples are numbered through."""
    ends = np.cumsum([0, *counts])
    return [(x(np.arange(a, b)), y(np.arange(a, b))) for a, b in pairwise(ends)]


def epoch(feed, number=0):
    found = []
    while (batch := feed.read(number, len(found))) is not None:
        found.append(batch)
    return found


@given(
    counts=st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any),
    batch=st.integers(1, 15),
    buffer=st.integers(1, 70),
    shuffled=st.booleans(),
)
def test_every_sample_once_with_its_label(counts, batch, buffer, shuffled):
    data = InMemory(batch, numbered(counts, x=lambda n: [n * 2.0, np.stack([n, -n], 1)]))
    index = data.index()
    order = Shuffle(index.samples, batch, buffer, 1) if shuffled else InOrder.of(index.samples, batch, buffer)
    feed = SampleFeed(data, index, order, torch.float32)
    for number in (0, 1):
        found = epoch(feed, number)
        labels = torch.cat([b.y for b in found]).tolist()
        assert (sorted(labels) if shuffled else labels) == list(range(sum(counts)))
        assert [b.samples for b in found] == [len(b.y) for b in found]
        for b in found:
            assert b.x[0].dtype == torch.float32 and (b.x[0] == 2 * b.y).all()
            assert (b.x[1] == torch.stack([b.y, -b.y], 1)).all()
    assert feed.read(0, order.batches) is None


@pytest.mark.parametrize("model", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("given", ["<f8", ">f8", "<f4", ">f4", "<f2", "g"])
def test_floats_are_given_as_the_model_has_them(model, given):
    values = (np.arange(8) / 7).astype(given)
    data = InMemory(8, [(values, np.arange(8))])
    batch = SampleFeed(data, data.index(), InOrder.of(8, 8, 8), model).read(0, 0)
    wanted = torch.from_numpy(values.astype("<f8" if model == torch.float64 else "<f4")).to(model)
    assert batch.x.dtype == model and torch.equal(batch.x, wanted)
    assert torch.equal(as_batch(values, values, model).x, wanted)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("u1", torch.uint8), ("i1", torch.int8), ("<i2", torch.int16), (">i4", torch.int32), (">i8", torch.int64),
        ("?", torch.bool), (">u2", torch.int32), ("<u2", torch.int32), (">u4", torch.int64), ("<u8", torch.int64),
    ],
)  # fmt: skip
def test_integers_stay_as_they_are(given, kept):
    values = np.array([0, 1, 1, 100]).astype(given)
    data = InMemory(4, [(values, values)])
    read = SampleFeed(data, data.index(), InOrder.of(4, 4, 4), torch.float32).read(0, 0)
    for batch in (read, as_batch(values, values, torch.float32)):
        assert batch.x.dtype == batch.y.dtype == kept
        assert batch.x.tolist() == batch.y.tolist() == values.tolist()


def test_largest_unsigned_values():
    assert as_batch(np.array([65535], ">u2"), np.array([2**32 - 1], "<u4"), torch.float32).x.item() == 65535
    assert as_batch(np.array([65535], ">u2"), np.array([2**32 - 1], "<u4"), torch.float32).y.item() == 2**32 - 1


@pytest.mark.parametrize("values", [np.array(["a"]), np.array([None]), np.array([b"x"])])
def test_what_is_no_number(values):
    with pytest.raises(DataError, match="cannot be trained on: turn them into numbers"):
        stored_type(values.dtype, torch.float32)
    with pytest.raises(DataError, match="cannot be trained on"):
        as_batch(values, np.zeros(1), torch.float32)


@pytest.mark.parametrize("container", [list, tuple])
def test_odd_arrays(container):
    strided = np.arange(24.0).reshape(4, 6)[::-1, ::2]
    frozen = np.arange(4)
    frozen.flags.writeable = False
    batch = as_batch(container([strided, torch.arange(4.0, requires_grad=True)]), frozen, torch.float32)
    assert batch.x[0].tolist() == strided.tolist() and batch.x[0].is_contiguous()
    assert batch.x[1].tolist() == [0, 1, 2, 3] and not batch.x[1].requires_grad
    assert batch.samples == 4 and batch.y.tolist() == [0, 1, 2, 3]


def test_memory_is_bounded_and_used_again(monkeypatch):
    made, real = [], blocks.Slot.like
    monkeypatch.setattr(
        blocks.Slot, "like", lambda samples, size, dtype: made.append(size) or real(samples, size, dtype)
    )
    data = InMemory(5, numbered([10] * 40))
    index = data.index()
    feed = SampleFeed(data, index, Shuffle(index.samples, 5, 20, 0), torch.float32)
    kept = epoch(feed) + epoch(feed, 1)
    assert made == [20] * KEPT_BLOCKS
    assert len(feed._blocks._kept) == KEPT_BLOCKS
    assert sorted(torch.cat([b.y for b in kept]).tolist()) == sorted(list(range(400)) * 2)


def test_each_file_is_loaded_once_a_block():
    data = InMemory(5, numbered([10] * 8))
    index = data.index()
    data.loaded.clear()
    epoch(SampleFeed(data, index, Shuffle(index.samples, 5, 20, 0), torch.float32))
    assert sorted(data.loaded) == sorted(range(8))


def test_a_block_that_could_not_be_read_is_not_kept():
    data = InMemory(2, numbered([4, 4]))
    index, good = data.index(), data.arrays[1]
    feed = SampleFeed(data, index, InOrder.of(8, 2, 8), torch.float32)
    data.arrays[1] = (good[0][:, None], good[1])
    with pytest.raises(DataError, match=r"1: samples of form float \(1\), where other files have float \(\)"):
        feed.read(0, 0)
    data.arrays[1] = good
    assert torch.cat([b.y for b in epoch(feed)]).tolist() == list(range(8))


def test_h5_blocks_over_many_files(tmp_path):
    counts, paths = [7, 0, 1, 30, 12], []
    for i, (x, y) in enumerate(numbered(counts, x=lambda n: np.stack([n, n], 1).astype(">f8"))):
        paths.append(str(tmp_path / f"{i}.h5"))
        with h5py.File(paths[-1], "w") as file:
            file.create_dataset("features", data=x, chunks=(4, 2) if len(x) > 4 else None)
            file["labels"] = y
    data = H5Data(6)
    index = Index.of(paths, [data.count_file(path) for path in paths])
    assert index.samples == sum(counts)
    found = epoch(SampleFeed(data, index, Shuffle(50, 6, 13, 0), torch.float32))
    assert sorted(torch.cat([b.y for b in found]).tolist()) == list(range(50))
    assert all((b.x == b.y[:, None]).all() and b.x.dtype == torch.float32 for b in found)


class Generator(Data):
    """Yields `lengths`-sized batches, numbered, always in the same array."""

    def __init__(self, lengths):
        super().__init__(1)
        self.lengths, self.begun = lengths, 0

    def generate_data(self):
        self.begun += 1
        x = np.zeros(10, np.float32)
        for number, length in enumerate(self.lengths):
            x[:] = number
            yield x[:length], x[:length]


def test_generated_batches_are_copies_and_empty_ones_are_passed_over():
    data = Generator([2, 0, 3, 0])
    feed = GeneratorFeed(data, torch.float32)
    first = epoch(feed)
    assert [b.x.tolist() for b in first] == [[0, 0], [2, 2, 2]]
    assert feed.read(0, 9) is None and data.begun == 1
    assert [b.samples for b in epoch(feed, 1)] == [2, 3] and data.begun == 2


def test_generated_batches_in_turn():
    found = [[int(b.x[0]) for b in epoch(GeneratorFeed(Generator([1] * 7), torch.float32, (i, 3)))] for i in range(3)]
    assert found == [[0, 3, 6], [1, 4], [2, 5]]
    assert epoch(GeneratorFeed(Generator([1]), torch.float32, (2, 3))) == []


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        ((np.zeros(2), np.zeros(3)), "features and labels have different lengths: 2, 3"),
        ((np.zeros(2), np.zeros(2), np.zeros(2)), r"gives tuple instead of a pair \(x, y\)"),
        (np.zeros((2, 2)), r"gives ndarray instead of a pair \(x, y\)"),
        (([], np.zeros(2)), "x and y must be arrays with the samples along axis 0"),
        (([0, 1], [0, 1]), "x and y must be arrays with the samples along axis 0"),
    ],
)
def test_what_is_no_batch(batch, said):
    class Wrong(Data):
        def generate_data(self):
            yield batch

        def load_data(self, file):
            return batch

    with pytest.raises(DataError, match=rf"^generate_data\(\) of Wrong: {said}"):
        GeneratorFeed(Wrong(1), torch.float32).read(0, 0)
    with pytest.raises(DataError, match=f"^some file: {said}"):
        Wrong(1).read_rows("some file", 0, None)


def test_a_generator_that_returns_nothing():
    class Wrong(Data):
        def generate_data(self):
            return None

    with pytest.raises(DataError, match=r"generate_data\(\) of Wrong returns NoneType: it must yield"):
        GeneratorFeed(Wrong(1), torch.float32).read(0, 0)


class Recording(Feed):
    """Batches are their own places; `lengths` is the number of each epoch's."""

    def __init__(self, lengths):
        self.lengths, self.read_ = lengths, []

    def read(self, epoch, k):
        self.read_.append((epoch, k))
        return (epoch, k) if k < self.lengths[epoch] else None


def ahead(ranges, lengths, steps, later=()):
    """What a worker gets that is dealt `ranges`, and `later` ones after the first step; and the feed."""

    async def main(transport):
        prefetch = Prefetch(transport, feed)
        for dealt in ranges:
            prefetch.add(dealt)
        for step in range(steps):
            got.append(await prefetch.next())
            for dealt in later if step == 0 else ():
                prefetch.add(dealt)
            assert len(feed.read_) <= len(got) + len([*ranges, *later]) * DEPTH
        return prefetch.ranges

    feed, got = Recording(lengths), []
    return got, feed, VirtualWorld(1).run(main)


def test_batches_come_oldest_first_each_read_once():
    got, feed, left = ahead([Range(1, 0, 2), Range(0, 5, 3)], [9, 9], 5)
    assert got == [(0, 5), (0, 6), (0, 7), (1, 0), (1, 1)] and left == []
    assert sorted(feed.read_) == sorted(got)


def test_a_range_left_by_a_lost_worker_comes_first():
    got, feed, left = ahead([Range(1, 0, 9)], [9, 9], 5, later=[Range(0, 3, 2)])
    assert got == [(1, 0), (0, 3), (0, 4), (1, 1), (1, 2)] and left == [Range(1, 3, 6)]
    assert len(set(feed.read_)) == len(feed.read_)


def test_the_end_of_a_generator_ends_its_epoch_only():
    got, _, left = ahead([Range(0, 0, UNBOUNDED), Range(1, 0, UNBOUNDED)], [2, 1], 5)
    assert got == [(0, 0), (0, 1), None, (1, 0), None] and left == []


class Noted(InMemory):
    """Notes on which thread it is read, and how often."""

    def __init__(self, *args):
        super().__init__(*args)
        self.on = []

    def load_data(self, file):
        self.on.append(threading.current_thread().name.partition("_")[0])
        return super().load_data(file)


def taken(data, order, ranges, world=None):
    """The labels that a worker gets that is dealt these ranges, one after another or all at once."""

    async def main(transport):
        prefetch = Prefetch(transport, SampleFeed(data, data.index(), order, torch.float32))
        for dealt in ranges:
            prefetch.add(dealt)
        for _ in range(sum(dealt.count for dealt in ranges)):
            prefetch.prepare()
            got.append((await prefetch.next()).y.tolist())
        assert prefetch.ranges == []
        return len(prefetch._feed._wanted)

    got = []
    assert (world or LocalWorld(1)).run(main) == 0
    return got


def noted(counts):
    data = Noted(5, numbered(counts))
    index = data.index()
    data.on.clear()
    data.index = lambda: index
    return data


@pytest.mark.parametrize("size", [10, 20, 40])
def test_blocks_are_read_once_by_the_reading_thread_and_batches_are_put_together_here(size):
    data, order = noted([size] * (80 // size)), InOrder.of(80, 5, size)
    assert taken(data, order, [Range(0, 0, 16)]) == np.arange(80).reshape(16, 5).tolist()
    assert data.on == ["reading"] * (80 // size)


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any),
    buffer=st.integers(1, 40),
    cuts=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30), st.integers(1, 9)), max_size=6),
    preloading=st.integers(0, 2),
)
def test_what_is_read_ahead_is_what_is_read(counts, buffer, cuts, preloading):
    """Whatever was dealt, in whatever order, and however small blocks are."""
    data = noted(counts)
    data.preloading = preloading
    order = Shuffle(sum(counts), 5, buffer, 1)
    wanted = dict.fromkeys((epoch, k) for epoch, first, n in cuts for k in range(first, min(first + n, order.batches)))
    ranges = [Range(epoch, k, 1) for epoch, k in wanted]
    plain = SampleFeed(data, data.index(), order, torch.float32)
    for world in (None, VirtualWorld(1)):
        assert taken(data, order, ranges, world) == [plain.read(*place).y.tolist() for place in sorted(wanted)]


def test_what_a_lost_worker_left_is_read_first_though_all_room_is_taken():
    """Blocks of the next batches hold the room; those that come before them need another."""
    data, order = noted([10] * 8), InOrder.of(80, 5, 10)

    async def main(transport):
        prefetch = Prefetch(transport, SampleFeed(data, data.index(), order, torch.float32))
        prefetch.add(Range(1, 0, 4))
        prefetch.add(Range(0, 10, 2))
        return [(await prefetch.next()).y.tolist()[0] for _ in range(6)]

    assert LocalWorld(1).run(main) == [50, 55, 0, 5, 10, 15]


def test_a_block_that_cannot_be_read_is_told_when_its_batch_is_due():
    data, order = noted([10] * 3), InOrder.of(30, 5, 10)
    data.load_data = lambda file, real=data.load_data: real(file) if file != "1" else (np.zeros(3), None)

    async def main(transport):
        prefetch = Prefetch(transport, SampleFeed(data, data.index(), order, torch.float32))
        prefetch.add(Range(0, 0, 6))
        for _ in range(2):
            await prefetch.next()
        with pytest.raises(DataError, match=r"^1: x and y must be arrays"):
            await prefetch.next()

    LocalWorld(1).run(main)


def test_reading_a_batch_of_images_is_quick(tmp_path):
    import time

    data = InMemory(100, [(np.ones((3000, 28, 28, 1), np.float32), np.ones((3000, 10), np.float32))])
    feed = SampleFeed(data, data.index(), Shuffle(3000, 100, 3000, 0), torch.float32)
    feed.read(0, 0)
    seconds = []
    for k in range(30):
        began = time.perf_counter()
        feed.read(0, k)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 5e-4


def test_feeds_are_made_from_parts(tmp_path):
    """The form in which roles make them."""
    data = InMemory(2, numbered([4]))
    make = partial(SampleFeed, data, data.index(), InOrder.of(4, 2, 4))
    assert len(epoch(make(torch.float64))) == 2
