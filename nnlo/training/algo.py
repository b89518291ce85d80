"""How to train: the algorithm, its optimizer, the loss and the metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nnlo.algos import MODES, Algorithm, Mode
from nnlo.errors import OptionsError
from nnlo.model import get_amp, get_loss, get_metrics
from nnlo.optim import NO_CLIP, OPTIMIZERS, Clip, OptimizerSpec
from nnlo.options import Options, fields_of, flag_of

DEFAULT_OPTIMIZER = "sgd"


class Algo:
    """An algorithm and its settings.

    `optimizer` is the name of the one that the master applies (None, or the default, where the mode has none). `loss`
    is a Keras name, a torch class or "module:callable"; `metrics` default to accuracy where the loss classifies.
    `validate_every` counts batches; epoch ends are always validated. `clip_norm` and `clip_value` limit the gradient
    that the optimizer gets. `amp` is "bf16" or "fp16", the workers' mixed precision. All other keywords are settings of
    the optimizer (`lr` or `learning_rate`, `momentum`, `weight_decay`, ...) or of the mode, by the names of its flags
    (`sync_every=4`); the latter may come as one instead, `mode_options`. Raises OptionsError for names that neither
    knows.
    """

    def __init__(
        self,
        optimizer: str | None = DEFAULT_OPTIMIZER,
        *,
        mode: str = "downpour",
        loss: str = "categorical_crossentropy",
        metrics: Sequence[str] | None = None,
        validate_every: int | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        amp: str | None = None,
        fused: bool = True,
        mode_options: Options | None = None,
        **options: Any,
    ) -> None:
        if validate_every is not None and (not isinstance(validate_every, int) or validate_every < 1):
            raise OptionsError(f"--validate-every must be a whole number, at least 1, not {validate_every!r}")
        self.mode = MODES.canonical(mode)
        kind = MODES[self.mode]
        names = [field.name for field in fields_of(kind.options)]
        if mode_options is None:
            mode_options = kind.options.from_keywords(**{name: options.pop(name) for name in names if name in options})
        self.mode_options = mode_options
        if isinstance(metrics, str):
            raise OptionsError(f"metrics must be a list of names: give ['{metrics}']")
        self.loss = get_loss(loss)
        self.metrics = get_metrics(("acc",) if metrics is None and self.loss.classifies else metrics or (), self.loss)
        self.validate_every = validate_every
        self.algorithm: Algorithm = kind.build(self.mode_options)
        self.amp = get_amp(amp)
        clip = Clip(clip_norm, clip_value)
        settings = {**optimizer_defaults(kind, optimizer, options), **options}
        self.optimizer = self._optimizer(optimizer, settings, fused, clip) if kind.needs_optimizer else None
        if not kind.needs_optimizer and optimizer not in (None, DEFAULT_OPTIMIZER):
            raise OptionsError(f"--optimizer {optimizer} is not read by --mode {self.mode}: drop it")
        if clip != NO_CLIP and not kind.needs_optimizer:
            raise OptionsError(
                f"--clip-norm, --clip-value are not read by --mode {self.mode}, which has no --optimizer: drop them"
            )
        if clip != NO_CLIP and not kind.clips:
            raise OptionsError(
                f"--clip-norm, --clip-value are for gradients, and --mode {self.mode} steps by votes: drop them"
            )
        if options and not kind.needs_optimizer:
            raise OptionsError(f"--mode {self.mode} has no setting '{min(options)}': it has {flags(names)}")

    def _optimizer(self, name: str | None, settings: dict[str, Any], fused: bool, clip: Clip) -> OptimizerSpec:
        if not isinstance(name, str):
            raise OptionsError(f"--mode {self.mode} needs an optimizer: choose one of {', '.join(OPTIMIZERS)}")
        try:
            return OptimizerSpec.of(name, settings, fused, clip)
        except OptionsError as error:
            own = [field.name for field in fields_of(type(self.mode_options))]
            raise OptionsError(f"{error}; --mode {self.mode} has {flags(own)}") from None

    def recorded(self) -> dict[str, Any]:
        """The settings as plain values, for the history."""
        optimizer = self.optimizer
        return {
            "mode": self.mode,
            **self.mode_options.recorded(),
            "loss": self.loss.name,
            "metrics": [metric.name for metric in self.metrics],
            "validate_every": self.validate_every,
            "amp": self.amp and str(self.amp).removeprefix("torch."),
            "optimizer": optimizer and {"name": optimizer.name, **optimizer.settings, "fused": optimizer.fused},
            "clip_norm": optimizer and optimizer.clip.norm,
            "clip_value": optimizer and optimizer.clip.value,
        }


def optimizer_defaults(kind: Mode, optimizer: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that suit the mode, where its optimizer is the one that they are for."""
    if optimizer != kind.defaults.get("optimizer") or "learning_rate" in given:
        return {}
    return {name: value for name, value in kind.defaults.items() if name in ("lr", "momentum")}


def flags(names: Sequence[str]) -> str:
    """The flags of these options, for a message."""
    return ", ".join(flag_of(name) for name in sorted(names)) or "none"
