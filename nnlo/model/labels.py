"""How labels are laid against a model's output: accepted shapes, conversion, and the line that refuses the rest.

Shapes: N samples, K classes, `*` further positions (pixels, steps).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from nnlo.errors import OptionsError

Tensors = Tensor | Sequence[Tensor]
"""One tensor, or a list of tensors for several inputs or outputs."""

FIX = "change the model's last layer, the labels (--labels-name) or --loss"


class LabelsError(OptionsError):
    """Labels that a computation cannot take: `fault` says why, the message how to mend it too."""

    def __init__(self, fault: str) -> None:
        super().__init__(fault)
        self.fault = fault

    def __str__(self) -> str:
        return f"{self.fault}; {FIX}"


class LabelRule(Protocol):
    """What a loss or a metric expects of the labels."""

    def prepare(self, output: Tensor, target: Tensor) -> Tensor:
        """The labels as the computation wants them, copied only to convert; OptionsError where shapes do not fit."""
        ...

    def inspect(self, output: Tensor, target: Tensor) -> None:
        """Look at the values too (prepare passed): OptionsError where they make no sense. Not for every batch."""
        ...


def first(tensors: Tensors) -> Tensor:
    """The tensor itself, or the first of several."""
    return tensors if isinstance(tensors, Tensor) else tensors[0]


def pairs(output: Tensors, target: Tensors) -> list[tuple[Tensor, Tensor]]:
    """Each output with its labels; OptionsError where their numbers differ."""
    outputs = [output] if isinstance(output, Tensor) else list(output)
    targets = [target] if isinstance(target, Tensor) else list(target)
    if len(outputs) != len(targets):
        raise LabelsError(f"the model has {len(outputs)} output(s), the data {len(targets)} label array(s)")
    return list(zip(outputs, targets, strict=True))


def shapes(tensors: Tensors) -> str:
    """The shape or shapes, for a message: "(2, 10)"."""
    if isinstance(tensors, Tensor):
        return str(tuple(tensors.shape))
    return ", ".join(shapes(tensor) for tensor in tensors)


def misfit(output: Tensors, target: Tensors, wanted: str) -> LabelsError:
    """The error for shapes that do not go together; `wanted` says what would fit."""
    return LabelsError(f"model output {shapes(output)} does not fit labels {shapes(target)}: {wanted}")


def single_logit(output: Tensor) -> bool:
    """Whether the output is one number a sample, (N,) or (N, 1, *): two classes at most."""
    return output.dim() < 2 or output.shape[1] == 1


class ClassLabels:
    """Several classes, output (N, K, *): class numbers (N, *) or (N, *, 1) of any dtype, or one-hot labels (N, K, *).

    `numbers=True` turns one-hot labels into class numbers; otherwise they stay, and may be soft.
    """

    def __init__(self, numbers: bool = False) -> None:
        self.numbers = numbers

    def prepare(self, output: Tensor, target: Tensor) -> Tensor:
        if single_logit(output):
            raise misfit(output, target, "several outputs, one a class, are wanted (for one, binary_crossentropy)")
        if target.shape == output.shape:
            onehot = target.to(output.dtype)
            return onehot.argmax(1) if self.numbers else onehot
        flat = (output.shape[0], *output.shape[2:])
        if target.shape == (*flat, 1):
            target = target.squeeze(-1)
        if target.shape != flat:
            raise misfit(output, target, f"one-hot labels {tuple(output.shape)} or class numbers {flat} are wanted")
        return target.long()

    def inspect(self, output: Tensor, target: Tensor) -> None:
        classes = output.shape[1]
        if target.shape == output.shape:
            if self.numbers and not bool(((target != 0).sum(1) == 1).all()):
                raise LabelsError(f"labels {shapes(target)} are not one-hot, and one class a sample is wanted")
            return
        wrong = (target < 0) | (target >= classes)
        if target.is_floating_point():
            wrong |= target != target.floor()
        if bool(wrong.any()):
            value = target[wrong][0].item()
            raise LabelsError(f"labels hold {value:g}, the model has the classes 0 to {classes - 1}")


class ElementLabels:
    """Output and labels of one shape, but for ones at its end: (N, 1) fits (N,). Never broadcast.

    `rows=True`: the last axis is a distribution or a vector, so it must be longer than one. `dtype`: that of the
    labels where the computation does not want the output's.
    """

    def __init__(self, rows: bool = False, dtype: torch.dtype | None = None) -> None:
        self.rows = rows
        self.dtype = dtype

    def prepare(self, output: Tensor, target: Tensor) -> Tensor:
        if self.rows and (output.dim() < 2 or output.shape[-1] == 1):
            raise misfit(output, target, "an output of several numbers a sample is wanted")
        if target.shape != output.shape:
            if _trimmed(target) != _trimmed(output):
                raise misfit(output, target, f"labels {tuple(output.shape)} are wanted")
            target = target.reshape(output.shape)
        return target.to(self.dtype or output.dtype)

    def inspect(self, output: Tensor, target: Tensor) -> None:
        """Any number will do."""


class BestLabels(ClassLabels):
    """Class numbers for a metric that looks for them among the `best` classes: there must be more than that."""

    def __init__(self, best: int) -> None:
        super().__init__(numbers=True)
        self.best = best

    def inspect(self, output: Tensor, target: Tensor) -> None:
        super().inspect(output, target)
        if output.shape[1] <= self.best:
            raise LabelsError(f"of {output.shape[1]} classes, the right one is always among the best {self.best}")


class AnyClassLabels:
    """What accuracy takes: class numbers or one-hot labels, or, for a single logit, labels 0 or 1 (or -1 and 1)."""

    several = ClassLabels(numbers=True)
    single = ElementLabels()

    def prepare(self, output: Tensor, target: Tensor) -> Tensor:
        return (self.single if single_logit(output) else self.several).prepare(output, target)

    def inspect(self, output: Tensor, target: Tensor) -> None:
        if not single_logit(output):
            self.several.inspect(output, target)
        elif not bool(((target == 0) | (target.to(output.dtype).abs() == 1)).all()):
            raise LabelsError(f"labels {shapes(target)} of a single output are not 0 or 1, as two classes are")


def _trimmed(tensor: Tensor) -> tuple[int, ...]:
    """The shape without the ones at its end; the samples' axis always stays."""
    shape = tuple(tensor.shape)
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
