"""The best weights of a training, kept beside the last ones."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from nnlo.logs import LOG
from nnlo.training.atomic import writing
from nnlo.training.callbacks import Logs
from nnlo.training.measured import check_mode, monitor_of
from nnlo.training.outputs import OutputCallback
from nnlo.training.weight_files import WeightFiles, write_weights

FLAG = "--save-best"


class SaveBest(OutputCallback):
    """Whenever `monitor` is better than ever, writes `<model>_<trial>_best.safetensors` and `.pt`.

    monitor: a figure of the history, for example val_loss, which counts at every validation, or loss, which counts at
    the ends of epochs. mode: min or max; None is what the figure's name says. The files hold the weights that the
    figure was measured with (a training figure: those at the end of its epoch), and are replaced as a whole.
    `best` is the figure's best value so far and `epoch`, with a fraction inside epochs, when it was; else NaN.
    """

    def __init__(self, monitor: str = "val_loss", mode: str | None = None) -> None:
        check_mode(mode, FLAG)
        self._asked = monitor, mode
        self.best = self.epoch = math.nan

    def check(self, measured: Collection[str]) -> None:
        self._monitor = monitor_of(*self._asked, measured, FLAG)
        self.weights = WeightFiles(self.named("best.safetensors"), self.named("best.pt"))

    def on_train_begin(self, logs: Logs) -> None:
        """An earlier run's files go, so that none can be taken for this run's; those of one that goes on stay."""
        self.best = self.epoch = math.nan
        if self.manager.restored:
            return
        for path in self.weights:
            with writing(path):
                path.unlink(missing_ok=True)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What was the best counts where its files are there."""
        if all(path.exists() for path in self.weights):
            self.best, self.epoch = state["best"], state["epoch"]

    def on_test_end(self, logs: Logs) -> None:
        if self._monitor.validated:
            self._consider(logs)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if not self._monitor.validated:
            self._consider(logs)

    def on_train_end(self, logs: Logs) -> None:
        if math.isfinite(self.epoch):
            LOG.info("best %s %.6g, in epoch %.4g", self._monitor.name, self.best, self.epoch)

    def _consider(self, logs: Logs) -> None:
        value = logs[self._monitor.name]
        if self._monitor.better(value, self.best):
            self.best, self.epoch = value, logs["epoch"]
            write_weights(self.weights, self.manager.model)
