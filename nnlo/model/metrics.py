"""What is counted beside the loss. A metric is a sum over samples, reported as sum / samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor

from nnlo.model.labels import AnyClassLabels, BestLabels, ElementLabels, LabelRule, Tensors, first, single_logit
from nnlo.model.losses import Loss
from nnlo.registry import Registry


@dataclass(frozen=True)
class Metric:
    """Call it with (output, labels): a scalar tensor, the sum over the samples of the batch (of several outputs, the
    first counts). A sample of several positions counts by their mean.

    `threshold`: where a single output divides two classes, 0 for logits.
    """

    name: str
    function: Callable[[Tensor, Tensor, float], Tensor]
    labels: LabelRule
    threshold: float = 0.0

    def __call__(self, output: Tensors, target: Tensors) -> Tensor:
        one, labels = first(output), first(target)
        scores = self.function(one, self.labels.prepare(one, labels), self.threshold)
        total = scores.sum()
        samples = labels.shape[0]
        return total if scores.numel() == samples else total / (scores.numel() // samples)


METRICS: Registry[Metric] = Registry("metric", "--metrics")


def _accuracy(output: Tensor, target: Tensor, threshold: float) -> Tensor:
    if single_logit(output):
        return _binary_accuracy(output, target, threshold)
    return output.argmax(1) == target


def _binary_accuracy(output: Tensor, target: Tensor, threshold: float) -> Tensor:
    return (output > threshold) == (target > 0.5)


def _top5(output: Tensor, target: Tensor, threshold: float) -> Tensor:
    best = output.topk(min(5, output.shape[1]), dim=1, sorted=False).indices
    return (best == target.unsqueeze(1)).any(1)


def _absolute_error(output: Tensor, target: Tensor, threshold: float) -> Tensor:
    return F.l1_loss(output, target, reduction="none")


def _squared_error(output: Tensor, target: Tensor, threshold: float) -> Tensor:
    return F.mse_loss(output, target, reduction="none")


def _register(name: str, function: Callable[[Tensor, Tensor, float], Tensor], labels: LabelRule, *aliases: str) -> None:
    METRICS.register(name, Metric(name, function, labels), aliases)


_register("acc", _accuracy, AnyClassLabels(), "accuracy")
_register("binary_acc", _binary_accuracy, ElementLabels(), "binary_accuracy")
_register("top5", _top5, BestLabels(5), "top_k_categorical_accuracy")
_register("mae", _absolute_error, ElementLabels(), "mean_absolute_error")
_register("mse", _squared_error, ElementLabels(), "mean_squared_error")


def get_metric(name: str, threshold: float = 0.0) -> Metric:
    """The metric of that name. `threshold`: where a single output divides two classes. Raises OptionsError."""
    return replace(METRICS[name], threshold=threshold)


def get_metrics(names: Iterable[str], loss: Loss) -> tuple[Metric, ...]:
    """The metrics that go with a loss, each once, in the order given. Raises OptionsError."""
    return tuple(get_metric(name, loss.threshold) for name in dict.fromkeys(map(METRICS.canonical, names)))
