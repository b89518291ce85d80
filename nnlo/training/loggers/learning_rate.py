"""The learning rate, whenever it is another one."""

from __future__ import annotations

import math

from nnlo.logs import LOG
from nnlo.training.callbacks import Callback, Logs


class LearningRateMonitor(Callback):
    """Logs the learning rate of the first epoch, and of each one that ends with another than the one before.

    Says nothing where the mode has no optimizer on the master.
    """

    def on_train_begin(self, logs: Logs) -> None:
        self._last = math.nan

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        lr = math.nan if logs["lr"] is None else logs["lr"]
        if not math.isnan(lr) and lr != self._last:
            LOG.info("epoch %d: learning rate %g", epoch + 1, lr)
            self._last = lr
