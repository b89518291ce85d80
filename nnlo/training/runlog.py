"""What the log says of a run, for whoever looks for what went wrong in it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from nnlo.launcher import launched_rank
from nnlo.logs import DETAIL, LOG, OFF_SCREEN
from nnlo.training.callbacks import Callback, Logs
from nnlo.training.history import History, versions
from nnlo.training.job import Job
from nnlo.training.progress import figures_text, line
from nnlo.training.record import figures_of
from nnlo.version import __version__


class RunLog(Callback):
    """Logs where `job` runs and on what, its validations and epochs, and how it ended; `history` is the run's."""

    def __init__(self, job: Job, history: History) -> None:
        self._job, self._history = job, history

    def on_train_begin(self, logs: Logs) -> None:
        job, history = self._job, self._history
        for host, pairs in groupby(enumerate(history["hosts"]), key=lambda pair: pair[1]):
            ranks = [rank for rank, _ in pairs]
            threads = ", ".join(str(history["threads"][rank]) for rank in ranks)
            LOG.info("%s on %s, torch threads: %s", numbers(ranks), host, threads, extra=DETAIL)
        LOG.info("training data: %s", amount(job.train_files, history["train_samples"]), extra=DETAIL)
        LOG.info("validation data: %s", amount(job.val_files, history["val_samples"]), extra=DETAIL)

    def on_test_begin(self, logs: Logs) -> None:
        LOG.debug("validation begins")

    def on_test_end(self, logs: Logs) -> None:
        LOG.debug("validation ends: %s", "  ".join(figures_text(figures_of(logs)[1])))

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        trained, validated = figures_of(logs)
        parts = [*line(trained, logs["staleness"]["mean"], logs["samples_per_second"]), *figures_text(validated)]
        LOG.info("epoch %d/%d done  %s", epoch + 1, self._job.epochs, "  ".join(parts), extra=OFF_SCREEN)

    def on_train_end(self, logs: Logs) -> None:
        LOG.info("training ends after %.3f s: %s", self._history["seconds"], self._history["outcome"], extra=OFF_SCREEN)

    def wrote(self, paths: Iterable[Path]) -> None:
        for path in paths:
            LOG.info("wrote %s", path, extra=OFF_SCREEN)


def log_run() -> None:
    """The command and what runs it, as rank 0's first line; a collective call after it keeps the others' behind."""
    if launched_rank() == 0:
        found = ", ".join(f"{name} {version}" for name, version in {"nnlo": __version__, **versions()}.items())
        LOG.info("%s (%s)", shlex.join(sys.argv), found, extra=DETAIL)


def amount(files: Sequence[str], samples: int | None) -> str:
    """Of data from files or a generator, which alone may know its samples (None)."""
    source = f"{len(files)} file{'s' * (len(files) != 1)}" if files else "no files"
    return f"{source}, {'any number of' if samples is None else f'{samples:,}'} samples"


def numbers(ranks: list[int]) -> str:
    """Ranks that follow one another: 'rank 3' or 'ranks 0 to 7'."""
    return f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
