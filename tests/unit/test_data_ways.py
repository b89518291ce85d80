"""The four ways to write `Data`: every sample is trained once an epoch, in one process, on three and on five ranks."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from nnlo import Algo, Data, ModelBuilder, MPIManager
from nnlo.comm.virtual import VirtualWorld

EPOCHS, SAMPLES = 2, 60
FILES = ["0:7", "7:20", "20:21", "21:33", "33:60"]


def samples(start, stop):
    column = np.arange(start, stop, dtype=np.float32)[:, None]
    return column, column * 1e-3


class Loads(Data):
    """Samples by file."""

    def load_data(self, file):
        return samples(*map(int, file.split(":")))


class ReadsFiles(Loads):
    """Batches out of the files of this rank."""

    def generate_data(self):
        for file in self.file_names:
            x, y = self.load_data(file)
            for start in range(0, len(y), 5):
                yield x[start : start + 5], y[start : start + 5]


class ReadsNone(Data):
    """The same batches on every rank."""

    def generate_data(self):
        for start in range(0, SAMPLES, 7):
            yield samples(start, min(start + 7, SAMPLES))


class ShardsItself(Data):
    """Its own share of the samples, unlike in length."""

    shards_itself = True

    def generate_data(self):
        ends = [0, *(SAMPLES * (w + 1) ** 2 // self.num_workers**2 for w in range(self.num_workers))]
        for start in range(ends[self.worker], ends[self.worker + 1], 4):
            yield samples(start, min(start + 4, ends[self.worker + 1]))


class Noting(ModelBuilder):
    """Linear models that note which samples they are trained on."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def build_model(self):
        model = nn.Linear(1, 1)
        model.register_forward_pre_hook(lambda module, args: self.note(args[0]) if module.training else None)
        return model

    def note(self, x):
        self.seen += x[:, 0].round().int().tolist()


@pytest.mark.parametrize("synchronous", [False, True])
@pytest.mark.parametrize("ranks", [1, 3, 5])
@pytest.mark.parametrize(
    ("kind", "files"), [(Loads, FILES), (ReadsFiles, FILES), (ReadsNone, None), (ShardsItself, None)]
)
def test_every_sample_once_an_epoch(kind, files, ranks, synchronous):
    comm, noting = VirtualWorld(ranks) if ranks > 1 else None, Noting()
    algo = Algo("sgd", lr=1e-9, loss="mse", metrics=(), synchronous=synchronous)
    history = MPIManager(comm, kind(6), algo, noting, EPOCHS, files, None, output=None).train()
    assert history["train_samples"] == SAMPLES and history["epochs"][-1]["samples"] == EPOCHS * SAMPLES
    assert sorted(noting.seen) == sorted([*range(SAMPLES)] * EPOCHS)
    if synchronous:
        assert sorted(noting.seen[:SAMPLES]) == list(range(SAMPLES))
