"""One training job: what a manager was asked for, the same on every rank."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from nnlo.algos import Algorithm, CollectiveAlgorithm, GossipAlgorithm, Place, ServerAlgorithm
from nnlo.data.base import Data
from nnlo.data.fold import Fold
from nnlo.data.partition import DataSplit
from nnlo.flat import Layout
from nnlo.model import Loss, Metric, ModelBuilder
from nnlo.optim import Group, OptimizerSpec, Schedule
from nnlo.topology import Topology
from nnlo.training.checkpoint.arguments import CheckpointArguments
from nnlo.training.replay import ReplayArguments
from nnlo.training.seeds import Purpose, derived
from nnlo.training.survival import SurvivalArguments

#: Updates in a row that are not finite and end a job, where no number is asked for.
MAX_BAD_UPDATES = 10
#: Bytes of samples shuffled together where no buffer is asked for.
BUFFER_BYTES = 32 << 20


@dataclass(frozen=True)
class Job:
    """Data, model, algorithm and how long.

    `optimizer` is the master's, None where the mode has none; `schedule` is that of its rate. `amp` is the narrow
    type of the workers' mixed precision, None for none. `validate_every` is in batches, None for
    epoch ends alone; `shuffle_buffer` in samples, None for what fits into BUFFER_BYTES; `train_split` the share
    of the training samples to train on, where the rest validates, or the fold of them that validates. `data_split`: who
    has which of them, None for what suits the mode; `classes`: those that there are, None for all. `model_accuracy`
    and `worker_accuracy`: whether the centre is measured on the training samples, and each worker on its share of them.
    `max_bad_updates`: updates in a row that are inf or nan and end the job. `topology`: what the ranks are;
    `team_backend`: what those of one worker add up their gradients with. `survival`: what is done when ranks are lost.
    `delay`: the seconds that a rank takes longer for its next batch, by
    its number. `checkpoints`: which are kept, and which is gone on from. `replay`: what is recorded, or repeated.
    """

    data: Data
    val_data: Data
    train_files: list[str]
    val_files: list[str]
    builder: ModelBuilder
    algorithm: Algorithm
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
    train_split: float | Fold | None = None
    data_split: DataSplit | None = None
    classes: str | None = None
    model_accuracy: bool = False
    worker_accuracy: bool = False
    team_backend: str = "mpi"
    max_bad_updates: int = MAX_BAD_UPDATES
    delay: Callable[[int], float] | None = None
    survival: SurvivalArguments = field(default_factory=SurvivalArguments)
    checkpoints: CheckpointArguments = field(default_factory=CheckpointArguments)
    replay: ReplayArguments = field(default_factory=ReplayArguments)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return ("loss", *(metric.name for metric in self.metrics))

    @property
    def server(self) -> ServerAlgorithm:
        """The algorithm, where its pattern is that of a server."""
        assert isinstance(self.algorithm, ServerAlgorithm)
        return self.algorithm

    @property
    def collective(self) -> CollectiveAlgorithm:
        """The algorithm, where its pattern is that of a collective."""
        assert isinstance(self.algorithm, CollectiveAlgorithm)
        return self.algorithm

    @property
    def gossip(self) -> GossipAlgorithm:
        """The algorithm, where its pattern is a graph."""
        assert isinstance(self.algorithm, GossipAlgorithm)
        return self.algorithm

    def place(self, index: int, workers: int, layout: Layout, groups: tuple[Group, ...], neighbours: int = 0) -> Place:
        """Where the algorithm's state is made: on the master (0) or on one of its `workers`."""
        seed = derived(self.seed, Purpose.ALGORITHM)
        return Place(index, workers, layout, seed, self.optimizer, groups, neighbours)

    def factor(self, clock: int, samples: int) -> float:
        """What the schedule multiplies rates by, where the master's clock is at `clock`, with `samples` an epoch."""
        return self.schedule.factor(clock / samples, self.epochs)

    def base_rate(self, layout: Layout, groups: tuple[Group, ...]) -> float:
        """The learning rate that schedules multiply: the workers' own, or else that of `--optimizer`."""
        if not math.isnan(self.algorithm.rate) or self.optimizer is None:
            return self.algorithm.rate
        return self.optimizer.build(torch.zeros(layout.numel, dtype=layout.dtype), groups).lr
