"""What happens to a batch: a gradient, an evaluation, and the check before the first of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nnlo.errors import DataError, OptionsError, describe
from nnlo.model.labels import FIX, LabelRule, LabelsError, Tensors, first, pairs, shapes
from nnlo.model.losses import Loss
from nnlo.model.metrics import Metric


class GradientStep:
    """Forward and backward of one batch; the gradient of its mean loss is ADDED to each parameter's `.grad`.

    Who owns the gradients zeroes them. Several inputs are passed as the module's positional arguments.
    `amp`: the narrow type of mixed precision; the loss is taken in full precision all the same.
    """

    def __init__(
        self, module: nn.Module, loss: Loss, metrics: Sequence[Metric] = (), amp: torch.dtype | None = None
    ) -> None:
        self.module = module
        self.loss = loss
        self.metrics = tuple(metrics)
        self._amp = amp
        self._device = next(module.parameters()).device.type

    def __call__(self, x: Tensors, y: Tensors, sums: Tensor | None = None, scale: float = 1.0) -> Tensor:
        """Add `scale` times the gradient, and [loss * N, each metric's sum] to `sums`; the loss.

        Without waiting for the device. `sums`: float64 (1 + metrics,) where the module is, or None to count nothing.
        """
        if not self.module.training:
            self.module.train()
        output, value = self.backward(x, y, scale)
        if sums is not None:
            _count(sums, value, output, y, self.metrics)
        return value.detach()

    def backward(self, x: Tensors, y: Tensors, scale: float = 1.0) -> tuple[Tensors, Tensor]:
        """Add `scale` times the gradient; the module's output and the loss."""
        output = _forward(self.module, x) if self._amp is None else self._narrow_forward(x)
        value: Tensor = self.loss(output, y)
        (value if scale == 1.0 else value * scale).backward()  # type: ignore[no-untyped-call]
        return output, value

    def _narrow_forward(self, x: Tensors) -> Tensors:
        with torch.autocast(self._device, self._amp):
            output = _forward(self.module, x)
        return output.float() if isinstance(output, Tensor) else [one.float() for one in output]


def evaluate(
    module: nn.Module, batches: Iterable[tuple[Tensors, Tensors]], loss: Loss, metrics: Sequence[Metric] = ()
) -> dict[str, float]:
    """Mean loss and metrics over all samples of the batches, by name: {"loss": 0.1, "acc": 0.98}.

    Eval mode, no gradients; every submodule's mode is restored. Raises DataError where there is no sample.
    """
    sums: Tensor | None = None
    samples = 0
    with evaluating(module):
        for x, y in batches:
            labels = first(y)
            if sums is None:
                sums = torch.zeros(1 + len(metrics), dtype=torch.float64, device=labels.device)
            output = _forward(module, x)
            _count(sums, loss(output, y), output, y, metrics)
            samples += labels.shape[0]
    if sums is None or samples == 0:
        raise DataError("there is no sample to evaluate: check the list of validation files (--val_data)")
    names = ["loss", *(metric.name for metric in metrics)]
    return dict(zip(names, (sums / samples).tolist(), strict=True))


def check_fit(module: nn.Module, x: Tensors, y: Tensors, loss: Loss, metrics: Sequence[Metric] = ()) -> None:
    """Try the model, the loss and the metrics on one small batch, before anything trains.

    Raises OptionsError: the input does not suit the model, or its output does not fit the labels (both shapes named).
    """
    output = output_of(module, x)
    with evaluating(module):
        _check_labels(f"loss '{loss.name}'", loss.labels, output, y, FIX)
        _try_loss(loss, output, y)
        for metric in metrics:
            what, fix = f"metric '{metric.name}'", "drop it from --metrics"
            _check_labels(what, metric.labels, first(output), first(y), fix)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; afterwards every submodule has the mode that it had."""
    with eval_mode(module), torch.no_grad():
        yield


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Eval mode; afterwards every submodule has the mode that it had."""
    modes = [(one, one.training) for one in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for one, training in modes:
            one.training = training


def _forward(module: nn.Module, x: Tensors) -> Tensors:
    output: Tensors = module(x) if isinstance(x, Tensor) else module(*x)
    return output


def _count(sums: Tensor, value: Tensor, output: Tensors, y: Tensors, metrics: Sequence[Metric]) -> None:
    sums[0].add_(value.detach(), alpha=first(y).shape[0])
    if metrics:
        scored = first(output).detach()
        for place, metric in enumerate(metrics, 1):
            sums[place].add_(metric(scored, y))


def output_of(module: nn.Module, x: Tensors) -> Tensors:
    """What the model makes of a small batch, in eval mode. Raises OptionsError: the input does not suit it."""
    try:
        with evaluating(module):
            output = _forward(module, x)
    except Exception as error:
        dtype = str(first(x).dtype).removeprefix("torch.")
        raise OptionsError(
            f"the model cannot take input {shapes(x)} {dtype} ({describe(error)}): {advice(first(x))}"
        ) from error
    several = isinstance(output, (list, tuple)) and output and all(isinstance(one, Tensor) for one in output)
    if not isinstance(output, Tensor) and not several:
        raise OptionsError(f"the model returns {type(output).__name__}: a tensor or a list of tensors is wanted")
    return output


def advice(x: Tensor) -> str:
    """What to do where a model does not take x."""
    if x.is_floating_point():
        return "change the model's parameters or the features (--features-name)"
    return "store the features as float32, or convert them in the model's forward()"


def _check_labels(what: str, rule: LabelRule | None, output: Tensors, y: Tensors, fix: str) -> None:
    if rule is None:
        return
    try:
        for one, labels in pairs(output, y):
            rule.prepare(one, labels)
            rule.inspect(one, labels)
    except LabelsError as error:
        raise OptionsError(f"{error.fault}; {fix} ({what})") from None


def _try_loss(loss: Loss, output: Tensors, y: Tensors) -> None:
    where = f"loss '{loss.name}' with model output {shapes(output)} and labels {shapes(y)}"
    try:
        value = loss(output, y)
    except Exception as error:
        raise OptionsError(f"{where} fails ({describe(error)}): change the model's last layer or --loss") from error
    if not isinstance(value, Tensor) or value.dim() != 0:
        found = shapes(value) if isinstance(value, Tensor) else type(value).__name__
        raise OptionsError(f"{where} gives {found}: a scalar tensor, the mean over the samples, is wanted")
