"""Data laid against the job's model without training: does it take the samples, and do all labels make sense to it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from nnlo.data.base import Arrays, part, rows
from nnlo.data.blocks import each
from nnlo.data.feed import Tensors, as_batch, copied
from nnlo.errors import OptionsError
from nnlo.model import output_of
from nnlo.model.labels import LabelRule, LabelsError, first, pairs
from nnlo.roles.inspect import SAMPLE_ROWS
from nnlo.roles.setup import build, try_on
from nnlo.training.job import Job


class Trial:
    """What does not fit the model of `job`. Raises OptionsError where the model cannot be built."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._module, self._layout, _ = build(job, None)
        self._outputs: list[Tensor] = []

    def __call__(self, x: Arrays, y: Arrays, at: int) -> str:
        """What is wrong with the samples from row `at` of a file on, empty where nothing is.

        The model is tried on a file's first samples alone; the others are taken to have their form.
        """
        if not rows(y):
            return ""
        few = as_batch(part(x, 0, SAMPLE_ROWS), part(y, 0, SAMPLE_ROWS), self._layout.dtype)
        try:
            if at == 0:
                output = output_of(self._module, few.x)
                self._outputs = [output] if isinstance(output, Tensor) else list(output)
            wrong = next(filter(None, (self._wrong(at, *one) for one in self._ruled(each(y, self._tensor)))), "")
            if at == 0 and not wrong:
                try_on(self._job, self._module, few)
        except OptionsError as error:
            return str(error)
        return wrong

    def _tensor(self, array: Any) -> Tensor:
        return copied(array, self._layout.dtype)

    def _ruled(self, y: Tensors) -> Iterator[tuple[LabelRule, Tensor, Tensor]]:
        """Each rule, an output of the model, and the labels that are to go by the rule."""
        if self._job.loss.labels is not None:
            for output, labels in pairs(self._outputs, y):
                yield self._job.loss.labels, output, labels
        for metric in self._job.metrics:
            yield metric.labels, self._outputs[0], first(y)

    def _wrong(self, at: int, rule: LabelRule, output: Tensor, labels: Tensor) -> str:
        """The first row whose label makes no sense, and why."""

        def fault(start: int, stop: int) -> str:
            return misfit(rule.inspect, output, labels[start:stop])

        if misfit(rule.prepare, output, labels[:1]) or not fault(0, len(labels)):
            return ""  # shapes that do not fit are told by the trial
        row = first_row(fault, len(labels))
        return f"row {at + row}: {fault(row, row + 1)}"


def misfit(check: Callable[[Tensor, Tensor], object], output: Tensor, labels: Tensor) -> str:
    """What `check` says against labels beside an output of the same form as `output` for as many samples."""
    try:
        check(torch.zeros_like(output[:1]).expand(len(labels), *output.shape[1:]), labels)
    except LabelsError as error:
        return error.fault
    return ""


def first_row(fault: Callable[[int, int], str], count: int) -> int:
    """The first of `count` rows with a fault, where there is one: `fault(start, stop)` looks at several at a time."""
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fault(low, middle) else (middle, high)
    return low
