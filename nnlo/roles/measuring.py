"""How a worker's last weights do on its share of the training samples."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from nnlo.data.feed import Tensors
from nnlo.model import evaluate
from nnlo.roles.setup import Setup
from nnlo.training.job import Job


def measured(job: Job, setup: Setup) -> dict[str, float]:
    """Loss and metrics of the weights that a worker had last, on its share of the training samples, and how many.

    The number alone where the share is empty. Raises DataError.
    """
    batches, samples = setup.intake.measured.batches(setup.layout.dtype), 0
    first = next(batches, None)
    if first is None:
        return {"samples": 0}

    def counted() -> Iterator[tuple[Tensors, Tensors]]:
        nonlocal samples
        for batch in chain([first], batches):
            samples += batch.samples
            yield batch.x, batch.y

    figures = evaluate(setup.module, counted(), job.loss, job.metrics)
    return {"samples": samples, **figures}
