"""Callbacks by flags: the ready-made ones, and those that a user names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnlo.errors import OptionsError
from nnlo.model.loading import named_object, user_code
from nnlo.options import Options, option
from nnlo.training.callbacks import Callback
from nnlo.training.loggers import CSVLogger, JSONLinesLogger, LearningRateMonitor, TensorBoard
from nnlo.training.save_best import SaveBest


@dataclass(frozen=True, kw_only=True)
class CallbackArguments(Options):
    """Callbacks"""

    csv: bool = option(False, help="write a CSV file that gets a row an epoch, as the epochs end")
    jsonl: bool = option(False, help="write a JSON line for each epoch and each validation, as they end")
    tensorboard: Path | None = option(
        None, help="write curves for TensorBoard into a folder of the run's name in this one", metavar="DIR"
    )
    save_best: tuple[str, ...] = option(
        (),
        help="keep the weights with the best value of this figure, for example val_loss or val_acc,max",
        metavar="METRIC[,min|max]",
    )
    log_lr: bool = option(False, help="log the learning rate whenever it changes")
    callback: tuple[str, ...] = option(
        (), help="callbacks of your own, as module:Class or file.py:Class", metavar="MODULE:CLASS,..."
    )

    def check(self) -> None:
        if len(self.save_best) > 2:
            raise OptionsError(f"--save-best takes METRIC, METRIC,min or METRIC,max, not {','.join(self.save_best)!r}")

    def build(self) -> list[Callback]:
        """The callbacks that are asked for. Raises OptionsError."""
        ready = [kind() for kind, wanted in self._switches() if wanted]
        ready += [TensorBoard(self.tensorboard)] if self.tensorboard else []
        ready += [SaveBest(*self.save_best)] if self.save_best else []
        return ready + [load_callback(spec) for spec in self.callback]

    def _switches(self) -> list[tuple[type[Callback], bool]]:
        return [(CSVLogger, self.csv), (JSONLinesLogger, self.jsonl), (LearningRateMonitor, self.log_lr)]


def load_callback(spec: str) -> Callback:
    """An instance of the class that 'package.module:Class' or 'file.py:Class' names. Raises OptionsError."""
    what = f"--callback {spec}"
    kind = named_object(spec, what, "Class", fits=lambda found: isinstance(found, type))
    if not issubclass(kind, Callback):
        raise OptionsError(f"{what}: {kind.__name__} is not a callback: make it a subclass of nnlo.Callback")
    with user_code(what):
        callback: Callback = kind()
    return callback
