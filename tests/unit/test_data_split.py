"""A split of the training files: disjoint, whole, the same everywhere, from all over every file, read in few pieces."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnlo import H5Data
from nnlo.comm.virtual import VirtualWorld
from nnlo.data.feed import SampleFeed
from nnlo.data.index import Index
from nnlo.data.shuffle import InOrder
from nnlo.data.split import RUNS, split
from nnlo.errors import DataError, OptionsError
from nnlo.training.seeds import Purpose, derived
from tests.jobs import Algo, Built, Data, MPIManager, Rows, nn, train_here

COUNTS = st.lists(st.integers(0, 300), min_size=1, max_size=8)


def rows(share, counts):
    """The numbers, through all files, of a share's samples in its order."""
    begins = dict(zip(share.files, np.cumsum([0, *counts]), strict=False))
    return [begins[file] + row for file, a, b in share.parts(0, share.samples) for row in range(a, b)]


def halves(counts, fraction, seed=0):
    return split(Index.of([str(i) for i in range(len(counts))], counts), fraction, seed)


@given(counts=COUNTS, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 2**63 - 1))
def test_every_sample_is_on_one_side(counts, fraction, seed):
    shares = halves(counts, fraction, seed)
    found = [rows(share, counts) for share in shares]
    assert sorted(found[0] + found[1]) == list(range(sum(counts)))
    assert [len(one) for one in found] == [share.samples for share in shares]
    assert abs(shares[0].samples - fraction * sum(counts)) <= 0.5
    assert found == [rows(share, counts) for share in halves(counts, fraction, seed)]
    assert all(one == sorted(one) for one in found)


@given(counts=COUNTS, start=st.integers(0, 500), length=st.integers(0, 500))
def test_any_part_of_a_share(counts, start, length):
    for share in halves(counts, 0.7):
        stop = min(start + length, share.samples)
        begins = dict(zip(share.files, np.cumsum([0, *counts]), strict=False))
        found = [begins[file] + row for file, a, b in share.parts(start, stop) for row in range(a, b)]
        assert found == rows(share, counts)[start:stop]


def test_both_sides_come_from_all_over_every_file():
    """Files sorted by class: each tenth of each file is on both sides, about by the share."""
    counts = [1000, 400, 3000]
    begins = np.cumsum([0, *counts])
    for share, wanted in zip(halves(counts, 0.8), (0.8, 0.2), strict=True):
        numbers = np.array(rows(share, counts))
        for begin, count in zip(begins, counts, strict=False):
            inside = numbers[(numbers >= begin) & (numbers < begin + count)] - begin
            assert np.bincount(inside * 10 // count, minlength=10).min() > 0.4 * wanted * count / 10
            assert abs(len(inside) / count - wanted) < 0.01


def test_a_file_is_read_in_few_pieces():
    for share in halves([100_000], 0.8):
        assert len(list(share.parts(0, share.samples))) <= RUNS + 1


def test_seeds_differ():
    assert rows(halves([500], 0.8, 1)[1], [500]) != rows(halves([500], 0.8, 2)[1], [500])


class Noted(nn.Module):
    """Notes the numbers, the first feature, of what it is trained and validated on."""

    def __init__(self, notes):
        super().__init__()
        self.notes, self.linear = notes, nn.Linear(1, 1)

    def forward(self, x):
        self.notes[self.training].append(x[:, 0].round().int().tolist())
        return self.linear(x * 1e-3)


class Numbers(Data):
    loads = 0

    def load_data(self, file):
        self.loads += 1
        column = np.arange(*map(int, file.split(":")), dtype=np.float32)[:, None]
        return column, column * 1e-3


def trained(comm, data, files, epochs=2, **options):
    notes: dict[bool, list[list[int]]] = {True: [], False: []}
    algo = Algo("sgd", lr=0.01, loss="mse", metrics=())
    manager = MPIManager(comm, data, algo, Built(lambda: Noted(notes)), epochs, files, None, output=None, **options)
    history = manager.train()
    return history, [sorted(one for batch in notes[mode] for one in batch) for mode in (True, False)]


@pytest.mark.parametrize("ranks", [None, 3])
def test_training_and_validation_share_the_files(ranks):
    comm = VirtualWorld(ranks) if ranks else None
    history, (seen, validated) = trained(comm, Numbers(7), ["0:40", "40:45", "45:130"], train_split=0.75, seed=3)
    assert (history["train_samples"], history["val_samples"]) == (98, 32)
    index = Index.of(["0", "1", "2"], [40, 5, 85])
    trains, validates = (set(rows(one, [40, 5, 85])) for one in split(index, 0.75, derived(3, Purpose.SPLIT)))
    assert seen == sorted(2 * sorted(trains))
    tried = set(seen[:4])  # the first two samples, on the model, before training
    assert set(validated) - tried == validates
    assert all(entry["val_loss"] > 0 for entry in history["epochs"])


def test_whole_files_are_loaded_once_a_block():
    data = Numbers(10)
    shares = halves([100, 100], 0.5)
    names = ["0:100", "100:200"]
    for share in shares:
        share = type(share)(tuple(names), share.ends, share.sizes, share.seed, share.validates)
        data.loads = 0
        x, _ = share.read(data, 0, share.samples)
        assert data.loads == 2 and len(x) == share.samples


def test_whole_files_are_loaded_once_a_block_into_old_memory():
    data, names = Numbers(10), tuple(f"{i}:{i + 50}" for i in range(0, 400, 50))
    for share in halves([50] * 8, 0.5):
        share = type(share)(names, share.ends, share.sizes, share.seed, share.validates)
        feed = SampleFeed(data, share, InOrder.of(share.samples, 5, 25), torch.float32)
        data.loads = 0
        found = [feed.read(0, k).x[:, 0] for k in range(40)]
        assert torch.cat(found).int().tolist() == rows(share, [50] * 8) and data.loads == 8


def test_hdf5_files_are_split(tmp_path):
    path = str(tmp_path / "x.h5")
    with h5py.File(path, "w") as file:
        file["features"] = np.arange(200.0)[:, None]
        file.create_dataset("labels", data=np.arange(200.0)[:, None], chunks=(7, 1), compression="gzip")
    history, (seen, validated) = trained(VirtualWorld(2), H5Data(16), [path], epochs=1, train_split=0.9)
    assert history["val_samples"] == 20
    assert set(seen) | set(validated) == set(range(200)) and len(seen) == 180


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.5, "half", float("nan")])
def test_shares_that_are_none(share):
    with pytest.raises(OptionsError, match="--train-split must be above 0 and below 1, not"):
        trained(None, Numbers(4), ["0:40"], train_split=share)


@pytest.mark.parametrize("options", [{"val_data": Numbers(4)}])
def test_a_split_beside_validation_data(options):
    with pytest.raises(OptionsError, match="drop it or --val-data"):
        trained(None, Numbers(4), ["0:40"], train_split=0.5, **options)
    with pytest.raises(OptionsError, match="drop it or --val-data"):
        algo = Algo("sgd")
        MPIManager(None, Numbers(4), algo, Built(nn.Identity), 1, ["0:40"], ["40:50"], train_split=0.5)


@pytest.mark.parametrize(("share", "said"), [(0.99, "validate"), (0.01, "train")])
def test_a_split_that_leaves_nothing(share, said):
    with pytest.raises(DataError, match=f"--train-split {share} leaves none of 20 samples to {said} on") as caught:
        trained(VirtualWorld(3), Numbers(4), ["0:20"], train_split=share)
    assert caught.value.agreed


def test_a_generator_is_not_split():
    class Own(Numbers):
        def generate_data(self):
            yield self.load_data("0:4")

    with pytest.raises(
        OptionsError, match=r"--train-split is not for it: generate_data\(\) of Own makes its own batche"
    ):
        trained(VirtualWorld(3), Own(4), [], train_split=0.5)


def test_without_a_split_all_is_trained_on():
    x = np.zeros((30, 2), np.float32)
    run = train_here(None, Rows(x, x, 4), Algo("sgd", loss="mse", metrics=()), lambda: nn.Linear(2, 2))
    assert run.history["train_samples"] == 30 and run.history["val_samples"] == 0
