"""Train a model of your own on data of your own: mpirun -np 3 python own_model.py"""

import numpy as np
import torch
from mpi4py import MPI

from nnlo import Algo, Data, ModelBuilder, MPIManager


class Spirals(Data):
    """Two intertwined spirals, a different part of them in each "file"."""

    def load_data(self, file):
        rng = np.random.default_rng(int(file))
        label = rng.integers(0, 2, 2000)
        angle = rng.uniform(0, 3 * np.pi, 2000)
        x = np.stack([np.cos(angle + np.pi * label), np.sin(angle + np.pi * label)], axis=1) * angle[:, None]
        return x.astype(np.float32) / 5, label


class SmallNetwork(ModelBuilder):
    def build_model(self):
        layers = [torch.nn.Linear(2, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU()]
        return torch.nn.Sequential(*layers, torch.nn.Linear(64, 2))


algo = Algo("adam", lr=0.003, loss="sparse_categorical_crossentropy")
manager = MPIManager(
    MPI.COMM_WORLD, Spirals(batch_size=50), algo, SmallNetwork(), num_epochs=20,
    train_list=["1", "2", "3", "4"], val_list=["5"], output=None,
)  # fmt: skip
history = manager.train()
if history:  # on rank 0
    print(f"validation accuracy {history['epochs'][-1]['val_acc']:.3f}")
