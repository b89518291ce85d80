"""The files that a run leaves behind: what they are called and how they are written."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from nnlo.errors import DataError, OptionsError
from nnlo.training.atomic import replacing
from nnlo.training.curves import draw
from nnlo.training.export import FORMATS
from nnlo.training.strict_json import dumps

ENDINGS = {"history": "history.json", "safetensors": "weights.safetensors", "pt": "weights.pt", "curves": "curves.png"}


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


def stem(model_name: str, trial_name: str | None) -> str:
    """What the names of a run's files begin with; without a trial name, a time stamp is in it."""
    return f"{model_name.replace('/', '_')}_{time_stamp() if trial_name is None else trial_name}"


class OutputFiles:
    """`<folder>/<model>_<trial>_...`: history.json, weights.safetensors, weights.pt and curves.png, and
    those of the export formats that are asked for.

    With `timeline` also timeline.json.
    trial_name None is a time stamp. Each file is written whole or not at all, so that one that is there can be trusted.
    Callbacks add theirs, which may grow.
    Raises OptionsError for a trial name that no file can have.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] = ".",
        model_name: str = "model",
        trial_name: str | None = None,
        overwrite: bool = False,
        exports: Sequence[str] = (),
        timeline: bool = False,
    ) -> None:
        self.folder, self.overwrite = Path(folder), overwrite
        self.trial_name = time_stamp() if trial_name is None else trial_name
        check_name(self.trial_name)
        self.stem = stem(model_name, self.trial_name)
        paths = {key: self.named(ending) for key, ending in ENDINGS.items()}
        self.history, self.curves = paths["history"], paths["curves"]
        self.weights = WeightFiles(paths["safetensors"], paths["pt"])
        self.exports = {name: self.named(FORMATS[name].ending) for name in exports}
        self.timeline = self.named("timeline.json")
        self.paths = (*paths.values(), *self.exports.values(), *([self.timeline] if timeline else []))
        self._owners: dict[Path, object] = dict.fromkeys(self.paths, self)

    def named(self, ending: str) -> Path:
        """The run's file of that ending, for example "metrics.csv"."""
        return self.folder / f"{self.stem}_{ending}"

    def claim(self, owner: object, path: Path) -> None:
        """A callback, `owner`, leaves this one as well. Raises OptionsError for what somebody else writes."""
        if self._owners.setdefault(path, owner) is not owner:
            raise OptionsError(f"callbacks: {path} has a writer already, the run itself or another callback: drop one")
        self.paths = tuple(self._owners)

    def check(self) -> None:
        """Raises OptionsError where the files could not be written in the end; leaves nothing behind."""
        check_free(self.folder, self.paths, self.overwrite, f"--output {self.folder}", "give another --trial-name")

    def write(self, history: Mapping[str, Any], module: nn.Module) -> tuple[Path, ...]:
        """Everything; returns the files that there are now. Raises DataError where one cannot be written."""
        written = [self.write_history(history), *self.write_weights(module)]
        drawn = self.write_curves(history)
        return (*written, drawn) if drawn else tuple(written)

    def write_history(self, history: Mapping[str, Any]) -> Path:
        write_history(self.history, history)
        return self.history

    def write_weights(self, module: nn.Module) -> WeightFiles:
        """All parameters and buffers, also frozen ones, on the CPU; tied ones are stored once and loaded as tied."""
        write_weights(self.weights, module)
        return self.weights

    def write_curves(self, history: Mapping[str, Any]) -> Path | None:
        """The picture of the curves, None where matplotlib is not installed."""
        with replacing(self.curves) as scratch:
            drawn = draw(history, scratch)
        return self.curves if drawn else None


def write_weights(paths: WeightFiles, module: nn.Module) -> None:
    """Both files; each is replaced as a whole. Raises DataError."""
    state = detached(module)
    try:
        with replacing(paths.safetensors) as scratch:
            save_file(untied(state), scratch, metadata={"format": "pt"})
        with replacing(paths.pt) as scratch, open(scratch, "wb") as file:
            torch.save(state, file)
    except (SafetensorError, RuntimeError) as error:  # what the two make of a full disk
        reason = str(error).partition("\n")[0]
        raise DataError(f"{paths.pt.parent}: cannot write the weights ({reason}): make room there") from error


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
