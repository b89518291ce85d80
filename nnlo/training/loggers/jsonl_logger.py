"""The history as lines of JSON that come while the training runs."""

from __future__ import annotations

from nnlo.training.callbacks import Logs
from nnlo.training.outputs import LineFile
from nnlo.training.strict_json import encode, strict


class JSONLinesLogger(LineFile):
    """One line for each validation and one for each epoch, as the history holds them, told apart by `event`.

    {"event": "validation", "samples": ..., "epoch": 0.5, "seconds": ..., "val_loss": ...}
    {"event": "epoch", "epoch": 1, "seconds": ..., "loss": ..., "ranks": {...}, "val_loss": ...}

    Strict JSON: what is not finite is null. filename: default `<output>/<model>_<trial>_metrics.jsonl`.
    """

    ending = "metrics.jsonl"

    def on_test_end(self, logs: Logs) -> None:
        self._write("validation", logs)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._write("epoch", logs)

    def _write(self, event: str, logs: Logs) -> None:
        self.write(encode(strict({"event": event, **logs})) + "\n")
