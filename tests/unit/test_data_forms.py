"""Several inputs and outputs, and labels of every kind, trained and validated from files."""

from __future__ import annotations

import math

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from nnlo import Algo, H5Data
from nnlo.comm.virtual import VirtualWorld
from tests.jobs import labelled, train_here

X, Y = labelled(90)
RANKS = pytest.mark.parametrize("ranks", [None, 3])


class Net(nn.Module):
    """`inputs` tensors of 8 features in, `outputs` tensors of `width` numbers out."""

    def __init__(self, inputs=1, outputs=1, width=4):
        super().__init__()
        self.inputs = inputs
        self.heads = nn.ModuleList(nn.Linear(8 * inputs, width) for _ in range(outputs))

    def forward(self, *x):
        assert len(x) == self.inputs
        found = [head(torch.cat([one.float() for one in x], 1)) for head in self.heads]
        return found if len(found) > 1 else found[0]


def train(ranks, tmp_path, x, y, net, **algo):
    """The last epoch of a training on files of these arrays, or groups of arrays, split in two files of odd sizes."""
    paths = []
    for name, rows in (("a", slice(0, 37)), ("b", slice(37, 90))):
        paths.append(str(tmp_path / f"{name}.h5"))
        with h5py.File(paths[-1], "w") as file:
            for column, arrays in (("features", x), ("labels", y)):
                for key, array in arrays.items() if isinstance(arrays, dict) else [("", arrays)]:
                    file[f"{column}/{key}".rstrip("/")] = array[rows]
    comm, data = VirtualWorld(ranks) if ranks else None, H5Data(8)
    run = train_here(
        comm, data, Algo("adam", lr=0.03, synchronous=True, **algo), net, epochs=4, train_list=paths, train_split=0.8
    )
    assert run.history["train_samples"] + run.history["val_samples"] == 90
    first, last = run.history["epochs"][0], run.last
    assert last["loss"] < first["loss"] and math.isfinite(last["val_loss"])
    return run.last


LABELS = {
    "int": (Y, "categorical_crossentropy"),
    "int8 column": (Y[:, None].astype(np.int8), "categorical_crossentropy"),
    "uint16 column": (Y[:, None].astype(np.uint16), "sparse_categorical_crossentropy"),
    "float numbers": (Y.astype(np.float32), "sparse_categorical_crossentropy"),
    "one-hot": (np.eye(4, dtype=np.uint8)[Y], "categorical_crossentropy"),
    "one-hot floats": (np.eye(4)[Y], "CrossEntropy"),
}


@RANKS
@pytest.mark.parametrize("labels", LABELS)
def test_labels_of_classes(ranks, labels, tmp_path):
    y, loss = LABELS[labels]
    last = train(ranks, tmp_path, X, y, Net, loss=loss)
    assert last["acc"] > 0.4 and 0 <= last["val_acc"] <= 1


def test_labels_of_classes_mean_the_same(tmp_path):
    found = []
    for name in ("int", "int8 column", "one-hot"):
        (tmp_path / name).mkdir()
        found.append(train(3, tmp_path / name, X, LABELS[name][0], Net, loss="categorical_crossentropy"))
    assert found[0]["val_loss"] == found[1]["val_loss"] == pytest.approx(found[2]["val_loss"], rel=1e-4)


@RANKS
@pytest.mark.parametrize("shape", [(90,), (90, 1)])
@pytest.mark.parametrize("dtype", ["f8", "f2", "i4"])
def test_real_labels(ranks, shape, dtype, tmp_path):
    y = X.sum(1).reshape(shape).astype(dtype)
    last = train(ranks, tmp_path, X, y, lambda: Net(width=1), loss="mse")
    assert "val_acc" not in last


@RANKS
def test_two_classes_by_one_output(ranks, tmp_path):
    last = train(ranks, tmp_path, X, Y[:, None] > 1, lambda: Net(width=1), loss="binary_crossentropy")
    assert last["acc"] > 0.5


@RANKS
def test_a_group_as_several_inputs(ranks, tmp_path):
    x = {"pixels": (X * 20).astype(np.int16), "more": X.astype(np.float64)}
    train(ranks, tmp_path, x, Y, lambda: Net(inputs=2))


@RANKS
@pytest.mark.parametrize("second", ["int", "one-hot", "int8 column"])
def test_a_group_as_several_outputs(ranks, second, tmp_path):
    y = {"a": Y, "b": LABELS[second][0]}
    last = train(ranks, tmp_path, X, y, lambda: Net(outputs=2))
    assert last["acc"] > 0.4


@RANKS
def test_several_real_outputs(ranks, tmp_path):
    y = {"a": X.sum(1), "b": X[:, :1] * 2.0, "c": X[:, 0]}
    train(ranks, tmp_path, X, y, lambda: Net(outputs=3, width=1), loss="mse", metrics=("mae",))


def many(outputs, labels):
    """Each output its own loss: classes and a number."""
    return nn.functional.cross_entropy(outputs[0], labels[0]) + nn.functional.mse_loss(outputs[1][:, 0], labels[1])


@RANKS
def test_a_loss_of_ones_own_over_lists(ranks, tmp_path):
    x, y = {"a": X, "b": -X}, {"class": Y, "energy": X.sum(1)}
    train(ranks, tmp_path, x, y, lambda: Net(inputs=2, outputs=2), loss=f"{__name__}:many", metrics=())
