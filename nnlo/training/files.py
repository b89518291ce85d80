"""The files that a run leaves behind: what they are called and which of them are written."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from nnlo.errors import OptionsError
from nnlo.training.atomic import discard, replacing
from nnlo.training.export import FORMATS
from nnlo.training.plots.curves import draw
from nnlo.training.report import write_report
from nnlo.training.strict_json import dumps
from nnlo.training.weight_files import WeightFiles, write_weights


@dataclass(frozen=True)
class Wanted:
    """What a run leaves beside its history and the picture of its curves; `exports` are formats of the model."""

    weights: bool = True
    report: bool = False
    timeline: bool = False
    exports: tuple[str, ...] = ()

    def check_folder(self, folder: str | os.PathLike[str] | None) -> None:
        """Raises OptionsError for files that are asked for where there is no folder for them."""
        asked = {"--report": self.report, "--timeline": self.timeline, "--export": self.exports}
        flags = [flag for flag, wanted in asked.items() if wanted]
        if flags and folder is None:
            raise OptionsError(f"{flags[0]} needs a folder to write to: give --output")


class OutputFiles:
    """`<folder>/<model>_<trial>_...`: history.json, curves.png and what is `wanted` beside them.

    trial_name None is a time stamp. `paths` are the files to come, `written` those that came. Each is written whole or
    not at all, so that one that is there can be trusted; callbacks add theirs, which may grow. Raises OptionsError
    for a trial name that no file can have.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] = ".",
        model_name: str = "model",
        trial_name: str | None = None,
        overwrite: bool = False,
        wanted: Wanted | None = None,
    ) -> None:
        self.folder, self.overwrite, self.wanted = Path(folder), overwrite, wanted or Wanted()
        self.trial_name = time_stamp() if trial_name is None else trial_name
        check_name(self.trial_name)
        self.stem = stem(model_name, self.trial_name)
        self.history, self.curves = self.named("history.json"), self.named("curves.png")
        self.report, self.timeline = self.named("report.html"), self.named("timeline.json")
        self.weights = WeightFiles(self.named("weights.safetensors"), self.named("weights.pt"))
        self.exports = {name: self.named(FORMATS[name].ending) for name in self.wanted.exports}
        self._owners: dict[Path, object] = dict.fromkeys(self._own(), self)
        self.written: tuple[Path, ...] = ()

    def _own(self) -> list[Path]:
        """What the run itself writes."""
        own = [self.history, *(self.weights if self.wanted.weights else ()), self.curves, *self.exports.values()]
        own += [self.report] if self.wanted.report else []
        return own + ([self.timeline] if self.wanted.timeline else [])

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(self._owners)

    @property
    def left(self) -> list[Path]:
        """The files of this run that are there, those of callbacks among them."""
        callbacks = [path for path, owner in self._owners.items() if owner is not self and path.exists()]
        return [*self.written, *callbacks]

    def named(self, ending: str) -> Path:
        """The run's file of that ending, for example "metrics.csv"."""
        return self.folder / f"{self.stem}_{ending}"

    def claim(self, owner: object, path: Path) -> None:
        """A callback, `owner`, leaves this one as well. Raises OptionsError for what somebody else writes."""
        if self._owners.setdefault(path, owner) is not owner:
            raise OptionsError(f"callbacks: {path} has a writer already, the run itself or another callback: drop one")

    def check(self) -> None:
        """Raises OptionsError where the files could not be written in the end; leaves nothing behind."""
        check_free(self.folder, self.paths, self.overwrite, f"--output {self.folder}", "give another --trial-name")

    def keep(self, module: nn.Module) -> None:
        """The weights, where they are wanted. Raises DataError where a file cannot be written."""
        if self.wanted.weights:
            self.write_weights(module)

    def write(self, history: Mapping[str, Any]) -> tuple[Path, ...]:
        """All that the history gives; what is written now. Raises DataError where a file cannot be written."""
        for write in self.writers(history):
            write()
        return self.written

    def writers(self, history: Mapping[str, Any]) -> list[Callable[[], object]]:
        """One for each file that the history gives: another is no worse for one that cannot be written."""
        report = [partial(self.write_report, history)] if self.wanted.report else []
        return [partial(self.write_history, history), partial(self.write_curves, history), *report]

    def write_account(self, history: Mapping[str, Any]) -> tuple[Path, ...]:
        """What there is to tell of a run that failed: the history, and the report if one is wanted.

        What an earlier run of the name left goes, so that nothing of it can be taken for this one's.
        """
        for path in self._own():
            if path not in self.written:
                discard(path)
        self.write_history(history)
        if self.wanted.report:
            self.write_report(history)
        return self.written

    def wrote(self, *paths: Path) -> None:
        """These were written."""
        self.written = tuple(dict.fromkeys((*self.written, *paths)))

    def write_history(self, history: Mapping[str, Any]) -> Path:
        write_history(self.history, history)
        self.wrote(self.history)
        return self.history

    def write_report(self, history: Mapping[str, Any]) -> None:
        write_report(self.report, history)
        self.wrote(self.report)

    def write_weights(self, module: nn.Module) -> WeightFiles:
        write_weights(self.weights, module)
        self.wrote(*self.weights)
        return self.weights

    def write_curves(self, history: Mapping[str, Any]) -> Path | None:
        """The picture of the curves, None where matplotlib is not installed."""
        with replacing(self.curves) as scratch:
            drawn = draw(history, scratch)
        if not drawn:
            discard(self.curves)
        self.wrote(*([self.curves] if drawn else []))
        return self.curves if drawn else None


def time_stamp(seconds: float | None = None) -> str:
    """The default trial name: 20260131-235959-123, local time, of now or of `seconds` since 1970.

    Milliseconds keep jobs apart that a scheduler starts together.
    """
    moment = time.time() if seconds is None else seconds
    return time.strftime("%Y%m%d-%H%M%S", time.localtime(moment)) + f"-{int(moment % 1 * 1000):03d}"


def stem(model_name: str, trial_name: str | None) -> str:
    """What the names of a run's files begin with; without a trial name, a time stamp is in it."""
    return f"{model_name.replace('/', '_')}_{time_stamp() if trial_name is None else trial_name}"


def check_free(folder: Path, paths: Iterable[Path], overwrite: bool, what: str, otherwise: str) -> None:
    """Raises OptionsError, about `what`, where `paths` in `folder` could not be written; leaves nothing behind.

    `otherwise` is what to do where they are there and `overwrite` is not set.
    """
    existing = folder.absolute()
    try:
        while not os.path.lexists(existing):
            existing = existing.parent
        with tempfile.TemporaryFile(dir=existing):
            pass
        taken = [path.name for path in paths if os.path.lexists(path)]
    except OSError as error:
        raise OptionsError(f"{what}: cannot write there ({error.strerror}): name another") from None
    if taken and not overwrite:
        raise OptionsError(f"{what}: {', '.join(taken)} already there: {otherwise}, or --overwrite")


def write_history(path: Path, history: Mapping[str, Any]) -> None:
    """Strict JSON: numbers that are not finite are null, which pandas reads as NaN. Raises DataError."""
    with replacing(path) as scratch:
        scratch.write_text(dumps(history), encoding="utf-8")


def check_name(trial_name: str) -> None:
    if not trial_name.strip() or "/" in trial_name or not trial_name.isprintable():
        raise OptionsError(f"--trial-name {trial_name!r} cannot be part of a file name: use letters, digits, - and _")
    if len(trial_name.encode()) > 150:
        raise OptionsError(f"--trial-name has {len(trial_name.encode())} bytes: at most 150 fit into a file name")
