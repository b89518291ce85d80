"""The files that a run leaves behind: what they are called and how they are written."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from nnlo.errors import DataError, OptionsError
from nnlo.training.atomic import replacing
from nnlo.training.plots.curves import draw
from nnlo.training.report import write_report
from nnlo.training.strict_json import dumps

ENDINGS = {
    "history": "history.json",
    "safetensors": "weights.safetensors",
    "pt": "weights.pt",
    "curves": "curves.png",
    "report": "report.html",
}
WEIGHTS = {"safetensors", "pt"}


class WeightFiles(NamedTuple):
    """The same weights twice: for safetensors' load_model, and for load_state_dict."""

    safetensors: Path
    pt: Path


def time_stamp(seconds: float | None = None) -> str:
    """The default trial name: 20260131-235959-123, local time, of now or of `seconds` since 1970.

    Milliseconds keep jobs apart that a scheduler starts together.
    """
    moment = time.time() if seconds is None else seconds
    return time.strftime("%Y%m%d-%H%M%S", time.localtime(moment)) + f"-{int(moment % 1 * 1000):03d}"


class OutputFiles:
    """`<folder>/<model>_<trial>_...`: history.json, weights.safetensors, weights.pt, curves.png and report.html.

    trial_name None is a time stamp. save_model: whether the weights are written; report: whether the report is.
    `paths` are the files to come, `written` those that came. Each is written whole or not at all, so that one that is
    there can be trusted. Raises OptionsError for a trial name that no file can have.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] = ".",
        model_name: str = "model",
        trial_name: str | None = None,
        overwrite: bool = False,
        save_model: bool = True,
        report: bool = False,
    ) -> None:
        self.folder, self.overwrite = Path(folder), overwrite
        self.trial_name = time_stamp() if trial_name is None else trial_name
        check_name(self.trial_name)
        stem = f"{model_name.replace('/', '_')}_{self.trial_name}"
        paths = {key: self.folder / f"{stem}_{ending}" for key, ending in ENDINGS.items()}
        self.history, self.curves, self.report = paths["history"], paths["curves"], paths["report"]
        self.weights = WeightFiles(paths["safetensors"], paths["pt"])
        self.save_model, self.with_report = save_model, report
        left_out = (set() if save_model else WEIGHTS) | (set() if report else {"report"})
        self.paths = tuple(path for key, path in paths.items() if key not in left_out)
        self.written: tuple[Path, ...] = ()

    def check(self) -> None:
        """Raises OptionsError where the files could not be written in the end; leaves nothing behind."""
        existing = self.folder.absolute()
        try:
            while not os.path.lexists(existing):
                existing = existing.parent
            with tempfile.TemporaryFile(dir=existing):
                pass
            taken = [path.name for path in self.paths if os.path.lexists(path)]
        except OSError as error:
            raise OptionsError(f"--output {self.folder}: cannot write there ({error.strerror}): name another") from None
        if taken and not self.overwrite:
            raise OptionsError(
                f"--output {self.folder}: {', '.join(taken)} already there: give another --trial-name, or --overwrite"
            )

    def write(self, history: Mapping[str, Any], module: nn.Module) -> tuple[Path, ...]:
        """Everything; returns the files that there are now. Raises DataError where one cannot be written."""
        self.write_history(history)
        if self.save_model:
            self.write_weights(module)
        self.write_curves(history)
        if self.with_report:
            self.write_report(history)
        return self.written

    def write_account(self, history: Mapping[str, Any]) -> None:
        """What there is to tell of a run that failed: the history, and the report if one is wanted."""
        self.write_history(history)
        if self.with_report:
            self.write_report(history)

    def write_history(self, history: Mapping[str, Any]) -> Path:
        write_history(self.history, history)
        self.written += (self.history,)
        return self.history

    def write_report(self, history: Mapping[str, Any]) -> None:
        write_report(self.report, history)
        self.written += (self.report,)

    def write_weights(self, module: nn.Module) -> WeightFiles:
        """All parameters and buffers, also frozen ones, on the CPU; tied ones are stored once and loaded as tied."""
        state = detached(module)
        try:
            with replacing(self.weights.safetensors) as scratch:
                save_file(untied(state), scratch, metadata={"format": "pt"})
            with replacing(self.weights.pt) as scratch, open(scratch, "wb") as file:
                torch.save(state, file)
        except (SafetensorError, RuntimeError) as error:  # what the two make of a full disk
            reason = str(error).partition("\n")[0]
            raise DataError(f"{self.folder}: cannot write the weights ({reason}): make room there") from error
        self.written += self.weights
        return self.weights

    def write_curves(self, history: Mapping[str, Any]) -> Path | None:
        """The picture of the curves, None where matplotlib is not installed."""
        with replacing(self.curves) as scratch:
            drawn = draw(history, scratch)
        self.written += (self.curves,) if drawn else ()
        return self.curves if drawn else None


def write_history(path: Path, history: Mapping[str, Any]) -> None:
    """Strict JSON: numbers that are not finite are null, which pandas reads as NaN. Raises DataError."""
    with replacing(path) as scratch:
        scratch.write_text(dumps(history), encoding="utf-8")


def check_name(trial_name: str) -> None:
    if not trial_name.strip() or "/" in trial_name or not trial_name.isprintable():
        raise OptionsError(f"--trial-name {trial_name!r} cannot be part of a file name: use letters, digits, - and _")
    if len(trial_name.encode()) > 150:
        raise OptionsError(f"--trial-name has {len(trial_name.encode())} bytes: at most 150 fit into a file name")


def detached(module: nn.Module) -> dict[str, Any]:
    """The module's state_dict with every tensor in memory of its own; tied ones remain one.

    Parameters that are parts of one large tensor would otherwise each be saved with the whole of it.
    """
    state: dict[str, Any] = module.state_dict()
    copies: dict[tuple[object, ...], Tensor] = {}
    for name, value in state.items():
        if isinstance(value, Tensor):
            key = identity(name, value)
            if key not in copies:
                copies[key] = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            state[name] = copies[key]
    return state


def identity(name: str, tensor: Tensor) -> tuple[object, ...]:
    """Equal for tensors that are the same memory, seen in the same way."""
    if tensor.numel() == 0:
        return (name,)
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def untied(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Each tensor under the first of its names in alphabetical order, as safetensors does it; no other values."""
    names: dict[int, str] = {}
    for name in sorted(state):
        if isinstance(state[name], Tensor):
            names.setdefault(id(state[name]), name)
    return {name: state[name] for name in names.values()}
