"""Curves for TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nnlo.errors import OptionsError
from nnlo.training.atomic import writing
from nnlo.training.callbacks import Logs
from nnlo.training.files import stem
from nnlo.training.outputs import OutputCallback
from nnlo.training.record import figures_of


class TensorBoard(OutputCallback):
    """Scalars in a folder of the run's own, `<log_dir>/<model>_<trial>`: tensorboard --logdir LOG_DIR compares runs.

    loss/train, loss/val, acc/train ..., lr, samples_per_second, staleness/mean and /max, bytes/up and /down; those of
    validation also inside epochs. Steps are samples, so that runs of any batch size and number of workers compare.
    Needs the package tensorboard.
    """

    retells = True

    def __init__(self, log_dir: str | os.PathLike[str] = "runs") -> None:
        self.log_dir = self.path = Path(log_dir)
        self._writer: Any = None

    def check(self, measured: Collection[str]) -> None:
        summary_writer()
        files = self.manager.files
        self.path = self.log_dir / (files.stem if files else stem(self.manager.job.builder.name, None))
        self.claim(self.path, f"--tensorboard {self.log_dir}", "give another --trial-name")

    def on_train_begin(self, logs: Logs) -> None:
        with writing(self.path):
            for old in self.path.glob("events.out.tfevents.*"):
                old.unlink()
            self._writer = summary_writer()(self.path)

    def on_test_end(self, logs: Logs) -> None:
        _, validated = figures_of(logs)
        self._add({f"{name.removeprefix('val_')}/val": value for name, value in validated.items()}, logs["samples"])

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        trained, _ = figures_of(logs)
        scalars = {f"{name}/train": value for name, value in trained.items()}
        scalars |= {"samples_per_second": logs["samples_per_second"]}
        scalars |= {f"staleness/{name}": logs["staleness"][name] for name in ("mean", "max")}
        scalars |= {f"bytes/{way}": logs[f"bytes_{way}"] for way in ("up", "down")}
        scalars |= {} if logs["lr"] is None else {"lr": logs["lr"]}
        self._add(scalars, logs["samples"])

    def _add(self, scalars: Mapping[str, float], step: int) -> None:
        with writing(self.path):
            for tag, value in scalars.items():
                self._writer.add_scalar(tag, value, step)
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def summary_writer() -> Any:
    """torch's writer of TensorBoard's files. Raises OptionsError without the package tensorboard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise OptionsError("--tensorboard needs tensorboard: pip install tensorboard, or drop the flag") from None
    return SummaryWriter
