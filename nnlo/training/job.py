"""One training job: what a manager was asked for, the same on every rank."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from nnlo.algos import ServerAlgorithm
from nnlo.data.base import Data
from nnlo.model import Loss, Metric, ModelBuilder
from nnlo.optim import OptimizerSpec, Schedule
from nnlo.topology import Topology

#: Bytes of samples shuffled together where no buffer is asked for.
BUFFER_BYTES = 32 << 20


@dataclass(frozen=True)
class Job:
    """Data, model, algorithm and how long.

    `optimizer` is the master's, None where the mode has none; `schedule` is that of its rate. `amp` is the narrow
    type of the workers' mixed precision, None for none. `validate_every` is in batches, None for
    epoch ends alone; `shuffle_buffer` in samples, None for what fits into BUFFER_BYTES; `train_split` the share
    of the training samples to train on, where the rest validates. `model_accuracy` and `worker_accuracy`: whether
    the centre is measured on the training samples, and each worker on its share of them. `topology`: what the ranks
    are; `team_backend`: what those of one worker add up their gradients with.
    """

    data: Data
    val_data: Data
    train_files: list[str]
    val_files: list[str]
    builder: ModelBuilder
    algorithm: ServerAlgorithm
    optimizer: OptimizerSpec | None
    loss: Loss
    metrics: tuple[Metric, ...]
    epochs: int
    topology: Topology
    seed: int = 0
    validate_every: int | None = None
    shuffle_buffer: int | None = None
    schedule: Schedule = field(default_factory=Schedule.of)
    amp: torch.dtype | None = None
    train_split: float | None = None
    model_accuracy: bool = False
    worker_accuracy: bool = False
    team_backend: str = "mpi"

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("loss", *(metric.name for metric in self.metrics))
