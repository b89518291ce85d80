"""Losses by Keras' names, by the names of torch's classes, or as 'module:callable'.

Each is the mean over the samples of a batch, so that batches of any sizes combine exactly by their samples.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnlo.errors import DataError, OptionsError
from nnlo.model.labels import ClassLabels, ElementLabels, LabelRule, Tensors, pairs
from nnlo.model.loading import named_object, user_code
from nnlo.registry import Registry, nearest

_EPSILON = 1e-7
# torch leaves samples of class -100 out of the mean: no label is to be left out, so that the mean is over all samples.
_IGNORE_NONE = torch.iinfo(torch.int64).min


@dataclass(frozen=True)
class Loss:
    """Call it with (output, labels): a scalar tensor, the mean over the samples; several outputs: the sum over them.

    `labels` converts and checks the labels (None: they go to `function` untouched, lists included).
    `classifies` says whether accuracy makes sense; `threshold` is where a single output divides two classes.
    """

    name: str
    function: Callable[..., Tensor]
    labels: LabelRule | None
    classifies: bool = False
    threshold: float = 0.0

    def __call__(self, output: Tensors, target: Tensors) -> Tensor:
        if self.labels is None:
            return self.function(output, target)
        if isinstance(output, Tensor) and isinstance(target, Tensor):
            return self.function(output, self.labels.prepare(output, target))
        terms = [self.function(one, self.labels.prepare(one, labels)) for one, labels in pairs(output, target)]
        return torch.stack(terms).sum()


LOSSES: Registry[Loss] = Registry("loss", "--loss")
_NUMBERS, _CLASSES = ClassLabels(numbers=True), ClassLabels()
_ELEMENTS, _ROWS = ElementLabels(), ElementLabels(rows=True)


def _keras(
    name: str, labels: LabelRule, *aliases: str, classifies: bool = False
) -> Callable[..., Callable[..., Tensor]]:
    def enter(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        LOSSES.register(name, Loss(name, function, labels, classifies), aliases)
        return function

    return enter


_keras("mean_squared_error", _ELEMENTS, "mse")(F.mse_loss)
_keras("mean_absolute_error", _ELEMENTS, "mae")(F.l1_loss)
_keras("huber", _ELEMENTS)(F.huber_loss)
_keras("binary_crossentropy", _ELEMENTS, classifies=True)(F.binary_cross_entropy_with_logits)


@_keras("sparse_categorical_crossentropy", _NUMBERS, classifies=True)
@_keras("categorical_crossentropy", _CLASSES, classifies=True)
def _categorical_crossentropy(output: Tensor, target: Tensor) -> Tensor:
    """On logits."""
    try:
        return F.cross_entropy(output, target, ignore_index=_IGNORE_NONE)
    except IndexError:
        raise DataError(
            f"labels hold the classes {int(target.min())} to {int(target.max())}, the model has 0 to"
            f" {output.shape[1] - 1}: change its last layer or the labels; --check-data names the files"
        ) from None


@_keras("mean_absolute_percentage_error", _ELEMENTS, "mape")
def _percentage_error(output: Tensor, target: Tensor) -> Tensor:
    return 100.0 * ((target - output).abs() / target.abs().clamp_min(_EPSILON)).mean()


@_keras("mean_squared_logarithmic_error", _ELEMENTS, "msle")
def _logarithmic_error(output: Tensor, target: Tensor) -> Tensor:
    return F.mse_loss(output.clamp_min(_EPSILON).log1p(), target.clamp_min(_EPSILON).log1p())


@_keras("log_cosh", _ELEMENTS, "logcosh")
def _log_cosh(output: Tensor, target: Tensor) -> Tensor:
    error = output - target
    return (error + F.softplus(-2.0 * error)).mean() - math.log(2.0)


@_keras("poisson", _ELEMENTS)
def _poisson(output: Tensor, target: Tensor) -> Tensor:
    return (output - target * (output + _EPSILON).log()).mean()


@_keras("hinge", _ELEMENTS, classifies=True)
def _hinge(output: Tensor, target: Tensor) -> Tensor:
    """Labels -1 and 1, or 0 and 1."""
    return _margins(output, target).mean()


@_keras("squared_hinge", _ELEMENTS, classifies=True)
def _squared_hinge(output: Tensor, target: Tensor) -> Tensor:
    return _margins(output, target).square().mean()


@_keras("kl_divergence", _ROWS, "kullback_leibler_divergence", "kld", classifies=True)
def _kl_divergence(output: Tensor, target: Tensor) -> Tensor:
    """From the labels' distribution to that of the logits, along the last axis."""
    total = F.kl_div(F.log_softmax(output, -1), target, reduction="sum")
    return total * (output.shape[-1] / output.numel())


@_keras("cosine_similarity", _ROWS)
def _cosine(output: Tensor, target: Tensor) -> Tensor:
    """Minus the cosine, along the last axis: -1 is best."""
    return -F.cosine_similarity(output, target, dim=-1).mean()


def _margins(output: Tensor, target: Tensor) -> Tensor:
    sign = torch.where(target == 0, -1.0, target)
    return (1.0 - sign * output).clamp_min(0.0)


_TORCH_OPTIONS: dict[str, dict[str, object]] = {
    "CrossEntropyLoss": {"ignore_index": _IGNORE_NONE},
    "NLLLoss": {"ignore_index": _IGNORE_NONE},
    "KLDivLoss": {"reduction": "batchmean"},
}
_TORCH_LABELS: dict[str, LabelRule] = {
    "CrossEntropyLoss": _CLASSES,
    "NLLLoss": _NUMBERS,
    "MultiMarginLoss": _NUMBERS,
    "MultiLabelMarginLoss": ElementLabels(dtype=torch.int64),
}
_TORCH_CLASSIFIERS = {
    "CrossEntropyLoss",
    "NLLLoss",
    "MultiMarginLoss",
    "BCELoss",
    "BCEWithLogitsLoss",
    "SoftMarginLoss",
}


@cache
def torch_losses() -> dict[str, type[nn.Module]]:
    """torch's loss classes that need nothing but (output, labels), by name."""
    found = {name: getattr(nn, name) for name in sorted(dir(nn)) if name.endswith("Loss")}
    return {name: one for name, one in found.items() if _required(one.forward) == 3 and _required(one.__init__) == 1}


def _required(function: Callable[..., object]) -> int:
    """How many arguments, self included, it cannot do without."""
    return sum(one.default is one.empty for one in inspect.signature(function).parameters.values())


def get_loss(spec: str) -> Loss:
    """The loss that `--loss` names.

    Keras' names ("categorical_crossentropy", on logits), torch's classes with or without 'Loss' ("MSE"), or
    'module:callable' with (output, labels) -> mean over the samples. Raises OptionsError.
    """
    if ":" in spec:
        return _from_module(spec)
    if spec in LOSSES:
        return LOSSES[spec]
    for name in (spec, f"{spec}Loss"):
        if name in torch_losses():
            return _from_torch(name)
    raise unknown_loss(spec)


def unknown_loss(spec: str) -> OptionsError:
    """The error for a name that is no loss: those like it come first, since there are many."""
    classes = [name.removesuffix("Loss") for name in torch_losses()]
    near = nearest(spec, [*classes, *LOSSES.names], 3)
    hint = f"did you mean {' or '.join(near)}? Known are" if near else "choose one of"
    return OptionsError(
        f"--loss: unknown loss '{spec}': {hint} {', '.join(LOSSES)}, a class of torch.nn with or without 'Loss'"
        f" ({', '.join(classes)}), or module:callable"
    )


def _from_torch(name: str) -> Loss:
    function = torch_losses()[name](**_TORCH_OPTIONS.get(name, {}))
    labels = _TORCH_LABELS.get(name, _ELEMENTS)
    return Loss(name, function, labels, name in _TORCH_CLASSIFIERS, 0.5 if name == "BCELoss" else 0.0)


def _from_module(spec: str) -> Loss:
    """'package.module:callable' or 'file.py:callable'; a class is instantiated."""
    what = f"loss '{spec}'"
    found = named_object(spec, what, "callable", fits=callable)
    with user_code(what):
        function = found() if isinstance(found, type) else found
    if not callable(function):
        raise OptionsError(f"{what}: a {found.__name__} cannot be called, give its class __call__(output, labels)")
    return Loss(spec, function, None)
