"""Parts of the training samples that belong to workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from torch import nn

from nnlo import Algo, Data, H5Data
from nnlo.comm.virtual import VirtualWorld
from nnlo.data.index import Index
from nnlo.data.partition import DataSplit, Part, check_classes, classes_of, of_classes
from nnlo.data.split import split
from nnlo.errors import DataError, OptionsError
from tests.jobs import Rows, labelled, train_here


def evenly(index: Index, workers: int, seed: int) -> list[Index]:
    return DataSplit.of("even").parts(Data(1), index, workers, seed)


def places(index: Index) -> list[tuple[str, int]]:
    """(file, row) of each sample, in order."""
    return [(file, row) for file, low, high in index.parts(0, index.samples) for row in range(low, high)]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("held", [False, True])
def test_parts_are_equal_disjoint_and_all(workers: int, held: bool) -> None:
    whole: Index = Index.of(["a", "b", "c"], [50, 1, 32])
    if held:
        whole = split(whole, 0.7, seed=3)[0]
    parts = evenly(whole, workers, seed=1)
    sizes = [part.samples for part in parts]
    assert max(sizes) - min(sizes) <= 1
    found = [place for part in parts for place in places(part)]
    assert sorted(found) == sorted(places(whole))
    assert len(set(found)) == len(found)


def test_each_part_has_samples_from_all_over_a_file() -> None:
    for part in evenly(Index.of(["sorted"], [10_000]), 5, seed=0):
        rows = np.array([row for _, row in places(part)])
        assert (np.histogram(rows, bins=10, range=(0, 10_000))[0] > 100).all()


def test_parts_follow_the_seed() -> None:
    index = Index.of(["a"], [100])
    one, same, other = (places(evenly(index, 4, seed)[0]) for seed in (1, 1, 2))
    assert one == same != other


def test_places_of_a_part_are_those_of_what_it_is_a_part_of() -> None:
    inner = Part.within(Index.of(["a", "b"], [10, 10]), [[(2, 5), (7, 9)], [(0, 2)]])
    assert places(inner) == [("a", 2), ("a", 3), ("a", 4), ("a", 7), ("a", 8), ("b", 0), ("b", 1)]
    assert places(Part.within(inner, [[(1, 4)], []])) == [("a", 3), ("a", 4), ("a", 7)]


# By classes.


class Labelled(Data):
    """Two files of samples whose features are their numbers."""

    def __init__(self, labels: NDArray[Any]) -> None:
        super().__init__(4)
        self.labels, half = labels, len(labels) // 2
        self.files = {"a": slice(0, half), "b": slice(half, None)}
        self.index = Index.of(["a", "b"], [half, len(labels) - half])

    def load_data(self, file: str) -> tuple[NDArray[Any], NDArray[Any]]:
        own = self.files[file]
        return np.arange(len(self.labels))[own, None] * 1.0, self.labels[own]


def labels_in(data: Labelled, part: Index) -> list[int]:
    """The class of each sample of a part, as it is read."""
    x, y = part.read(data, 0, part.samples)
    numbers = np.asarray(x)[:, 0].astype(int)
    assert len(set(numbers)) == len(numbers)
    np.testing.assert_array_equal(y, data.labels[numbers])
    classes: list[int] = (np.asarray(y).argmax(1) if np.ndim(y) == 2 else np.asarray(y)).tolist()
    return classes


def some(samples: int = 600, classes: int = 10, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, classes, samples)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7, 10])
@pytest.mark.parametrize("one_hot", [False, True])
def test_whole_classes_and_none_dropped(workers: int, one_hot: bool) -> None:
    """Also where the number of classes is no multiple of that of workers."""
    labels = some()
    data = Labelled(np.eye(10)[labels] if one_hot else labels)
    parts = [labels_in(data, part) for part in DataSplit.of("label").parts(data, data.index, workers, seed=1)]
    own = [set(part) for part in parts]
    assert sorted(one for part in own for one in part) == list(range(10))
    assert max(map(len, own)) - min(map(len, own)) <= 1
    assert sum(map(len, parts)) == 600


@pytest.mark.parametrize("workers", [11, 20, 25])
def test_more_workers_than_classes_share_some(workers: int) -> None:
    data = Labelled(some())
    parts = [labels_in(data, part) for part in DataSplit.of("label").parts(data, data.index, workers, seed=1)]
    assert all(len(set(part)) == 1 for part in parts) and {one for part in parts for one in part} == set(range(10))
    assert sum(map(len, parts)) == 600
    for one in range(10):
        sizes = [len(part) for part in parts if set(part) == {one}]
        assert max(sizes) - min(sizes) <= 1


def test_dirichlet_shares() -> None:
    """They cover all; the smaller alpha, the fewer classes make up a worker's samples."""
    data, largest = Labelled(some(4000)), {}
    for alpha in (0.05, 100.0):
        split = DataSplit.of(f"dirichlet:alpha={alpha}")
        parts = [labels_in(data, part) for part in split.parts(data, data.index, 8, seed=2)]
        assert sum(map(len, parts)) == 4000 and min(map(len, parts)) > 0
        largest[alpha] = np.mean([max(np.bincount(part)) / len(part) for part in parts])
    assert largest[100.0] < 0.15 and largest[0.05] > 0.4


def test_expected_shares_of_a_dirichlet_split_are_equal() -> None:
    data, counts = Labelled(some(500)), np.zeros(4)
    for seed in range(200):
        counts += [part.samples for part in DataSplit.of("dirichlet:alpha=1").parts(data, data.index, 4, seed)]
    np.testing.assert_allclose(counts / counts.sum(), 0.25, atol=0.02)


def test_all_have_all() -> None:
    data = Labelled(some())
    assert all(part.samples == 600 for part in DataSplit.of("shared").parts(data, data.index, 3, seed=0))


def test_some_classes_only() -> None:
    data = Labelled(some())
    assert set(labels_in(data, of_classes(data, data.index, "0-2,7"))) == {0, 1, 2, 7}
    inner = of_classes(data, data.index, "3,4")
    parts = DataSplit.of("label").parts(data, inner, 2, seed=0)
    assert [set(labels_in(data, part)) for part in parts] == [{3}, {4}]
    with pytest.raises(DataError, match=r"--classes 11-12: none of 600 samples is of these: name others"):
        of_classes(data, data.index, "11-12")


@pytest.mark.parametrize("text", ["", "a", "1-", "4-2", "-3", "1,,2", "0.5"])
def test_classes_that_are_none(text: str) -> None:
    with pytest.raises(OptionsError, match="--classes must be numbers of classes, such as 0-4 or 0,3,7, not"):
        check_classes(text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("labels", "--data-split: unknown value 'labels': choose one of dirichlet, even, label, shared"),
        ("label:alpha=1", "--data-split label:alpha=1: label has no setting 'alpha'"),
        ("dirichlet:beta=1", "dirichlet has no setting 'beta'"),
        ("dirichlet:alpha=0", "alpha must be a number above 0"),
        ("dirichlet:alpha=x", "alpha must be a number above 0"),
    ],
)
def test_splits_that_there_are_not(text: str, complaint: str) -> None:
    with pytest.raises(OptionsError, match=complaint):
        DataSplit.of(text)


def test_labels_that_are_no_classes() -> None:
    for labels in (np.linspace(0, 1, 20), np.random.default_rng(0).normal(size=(20, 3)), -np.ones(20)):
        data = Labelled(labels)
        with pytest.raises(DataError, match="a: --data-split label takes classes, and the labels are float64"):
            DataSplit.of("label").parts(data, data.index, 2, seed=0)


def test_a_worker_without_a_sample() -> None:
    data = Labelled(np.zeros(4, dtype=int))
    with pytest.raises(DataError, match="--data-split label: worker 5 of 6 would have no sample: start fewer ranks"):
        DataSplit.of("label").parts(data, data.index, 6, seed=0)
    with pytest.raises(DataError, match="would have no sample"):
        DataSplit.of("dirichlet:alpha=0.1").parts(data, data.index, 6, seed=0)


def test_labels_alone_are_read_from_hdf5(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = some(100)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"], file["labels"] = np.arange(100.0)[:, None], labels
    data, index = H5Data(10), Index.of([str(tmp_path / "a.h5")], [100])
    monkeypatch.setattr(H5Data, "read_rows", None)
    part = Part.within(index, [[(3, 9), (50, 80)]])
    np.testing.assert_array_equal(classes_of(data, part, "--classes"), np.r_[labels[3:9], labels[50:80]])


@pytest.mark.parametrize("mode", ["downpour", "allreduce", "dsgd"])
@pytest.mark.parametrize("split", ["even", "label", "dirichlet:alpha=1", "shared"])
def test_every_kind_of_mode_trains_on_every_split(mode: str, split: str) -> None:
    """An epoch is as many samples as there are, each of them once where workers do not begin again."""
    x, y = labelled(160, 8, 4)
    algo, world = Algo("sgd", lr=0.1, mode=mode), VirtualWorld(5)
    run = train_here(world, Rows(x, y, 8), algo, lambda: nn.Linear(8, 4), epochs=2, data_split=split, classes="0-3")
    late = {"downpour": 8, "allreduce": 0, "dsgd": 32}[mode]
    assert [entry["samples"] for entry in run.history["epochs"]] == pytest.approx([160, 320], abs=late)
    workers = run.history["epochs"][-1]["ranks"]
    assert len(workers) == 4 and all(one["samples"] > 0 for one in workers.values())
