"""Evaluation without training: rank 0 goes through the validation data once."""

from __future__ import annotations

from functools import partial

from torch import nn

from nnlo.comm.agree import agree, everywhere
from nnlo.comm.base import Transport
from nnlo.errors import OptionsError
from nnlo.flat import Layout
from nnlo.model import check_fit
from nnlo.roles.intake import Validation, training_intake, validation_intake
from nnlo.roles.setup import build
from nnlo.roles.validator import Validator
from nnlo.training.job import Job


async def evaluated(transport: Transport, job: Job, module: nn.Module | None) -> dict[str, float] | None:
    """The validation's figures, {"val_loss": 0.1, "val_acc": 0.98}, on rank 0; None on other ranks.

    module: what rank 0 evaluates; None for what the job's builder builds. Raises the same OptionsError or
    DataError on every rank.
    """
    held_out = (await training_intake(transport, job)).held_out if job.train_split is not None else None
    validation = await validation_intake(transport, job, held_out)
    if validation is None:
        await agree(transport, OptionsError("there is nothing to evaluate on: name a list of files (--val-data)"))
        return None
    return await everywhere(transport, partial(figures, job, validation, module) if transport.rank == 0 else nothing)


def figures(job: Job, validation: Validation, module: nn.Module | None) -> dict[str, float] | None:
    """Loss and metrics of the module over all validation data."""
    if module is None:
        module, layout, _ = build(job, None)
    else:
        layout = Layout.of(module)
    batch = validation.feed(layout.dtype).read(0, 0)
    if batch is not None:
        check_fit(module, batch.x, batch.y, job.loss, job.metrics)
    return Validator(module, job.loss, job.metrics, validation.feed(layout.dtype)).evaluate()


def nothing() -> dict[str, float] | None:
    return None
