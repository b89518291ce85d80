"""What the export of the trained model needs of a job: an example of its inputs, and a trial before training."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from nnlo.data.feed import as_batch
from nnlo.errors import DataError
from nnlo.roles.inspect import Sample, first_batch
from nnlo.roles.setup import Setup
from nnlo.training.export import Exports
from nnlo.training.job import Job


def tried_exports(paths: Mapping[str, Path], job: Job, setup: Setup) -> Exports:
    """What will write the model to `paths`, by format, after one trial of each.

    Raises OptionsError for a model that cannot be written so. On rank 0.
    """
    exports = Exports(paths, inputs(setup.intake.sample or own_batch(job), setup.layout.dtype))
    exports.check(setup.module)
    return exports


def own_batch(job: Job) -> Sample:
    """The first batch of a user's generator, which rank 0 does not look at otherwise. Raises DataError for none."""
    data = copy.copy(job.data)
    data.worker, data.num_workers, data.file_names = 0, 1, job.train_files
    found = first_batch(data)
    if found is None:
        raise DataError(f"generate_data() of {type(data).__name__} yields no sample to export the model with")
    return found


def inputs(sample: Sample, dtype: torch.dtype) -> list[Tensor]:
    """The model's positional arguments."""
    x = as_batch(sample.x, sample.y, dtype).x
    return [x] if isinstance(x, Tensor) else list(x)
