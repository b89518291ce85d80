"""How to train: the algorithm, its optimizer, the loss and the metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from nnlo.algos import MODES, ServerAlgorithm
from nnlo.errors import OptionsError
from nnlo.model import get_loss, get_metrics
from nnlo.optim import OPTIMIZERS, OptimizerSpec
from nnlo.options import flag_of


class Algo:
    """An algorithm and its settings.

    `optimizer` is the name of the one that the master applies (None where the mode has none). `loss` is a
    Keras name, a torch class or "module:callable"; `metrics` default to accuracy where the loss
    classifies. `validate_every` counts batches; epoch ends are always validated. All other keywords are
    settings of the optimizer (`lr` or `learning_rate`, `momentum`, ...) or of the mode, by the names of
    its flags (`sync_every=4`). Raises OptionsError for names that neither knows.
    """

    def __init__(
        self,
        optimizer: str | None = "sgd",
        *,
        mode: str = "downpour",
        loss: str = "categorical_crossentropy",
        metrics: Sequence[str] | None = None,
        validate_every: int | None = None,
        fused: bool = True,
        **options: Any,
    ) -> None:
        if validate_every is not None and validate_every < 1:
            raise OptionsError(f"--validate-every must be at least 1, not {validate_every}")
        self.mode = MODES.canonical(mode)
        kind = MODES[mode]
        known = {field.name for field in dataclasses.fields(kind.options)}
        own = {name: value for name, value in options.items() if name in known}
        settings = {name: value for name, value in options.items() if name not in known}
        self.loss = get_loss(loss)
        self.metrics = get_metrics(("acc",) if metrics is None and self.loss.classifies else metrics or (), self.loss)
        self.validate_every = validate_every
        self.mode_options = kind.options(**own)
        self.algorithm: ServerAlgorithm = kind.build(self.mode_options)
        self.optimizer = self._optimizer(optimizer, settings, known, fused) if kind.needs_optimizer else None

    def _optimizer(self, name: str | None, settings: dict[str, Any], known: set[str], fused: bool) -> OptimizerSpec:
        if name is None:
            raise OptionsError(f"--mode {self.mode} needs an optimizer: choose one of {', '.join(OPTIMIZERS)}")
        try:
            return OptimizerSpec.of(name, settings, fused)
        except OptionsError as error:
            extra = (
                f"; --mode {self.mode} has {', '.join(map(flag_of, sorted(known)))}"
                if "no setting" in str(error)
                else ""
            )
            raise OptionsError(f"{error}{extra}") from None

    def record(self) -> dict[str, Any]:
        """The settings as plain values, for the history."""
        optimizer = self.optimizer
        return {
            "mode": self.mode,
            **self.mode_options.record(),
            "loss": self.loss.name,
            "metrics": [metric.name for metric in self.metrics],
            "validate_every": self.validate_every,
            "optimizer": optimizer and {"name": optimizer.name, **optimizer.settings, "fused": optimizer.fused},
        }
