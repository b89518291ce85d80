"""The trained model in forms that are used without its source: ONNX, TorchScript, torch.export."""

from __future__ import annotations

import copy
import importlib.util
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor, nn

from nnlo.errors import OptionsError, describe
from nnlo.model.step import evaluating
from nnlo.registry import Registry
from nnlo.training.atomic import replacing

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Format:
    """One form of a model: how its files end, what it takes beside torch, and how it is written.

    `write(module, inputs, path)`: the module in eval mode, and its positional arguments with two samples each; the
    file takes any number of samples.
    """

    ending: str
    write: Callable[[nn.Module, Inputs, Path], None]
    packages: tuple[str, ...] = ()


def write_onnx(module: nn.Module, inputs: Inputs, path: Path) -> None:
    sizes = any_batch(inputs)
    torch.onnx.export(module, inputs, path, dynamo=True, dynamic_shapes=sizes, external_data=False, verbose=False)


def write_torch_export(module: nn.Module, inputs: Inputs, path: Path) -> None:
    made = torch.export.export(module, inputs, dynamic_shapes=any_batch(inputs))
    write_whole(path, lambda buffer: torch.export.save(made, buffer))


def write_torchscript(module: nn.Module, inputs: Inputs, path: Path) -> None:
    made = torch.jit.trace(module, inputs)  # type: ignore[no-untyped-call]
    write_whole(path, lambda buffer: torch.jit.save(made, buffer))


def write_whole(path: Path, save: Callable[[BinaryIO], None]) -> None:
    """By way of memory: a full disk is then an OSError, where torch, writing itself, ends the process."""
    buffer = io.BytesIO()
    save(buffer)
    path.write_bytes(buffer.getbuffer())


def any_batch(inputs: Inputs) -> tuple[dict[int, torch.export.Dim], ...]:
    """Tells the exporters that the first axis of every input may have any length, the same for all."""
    batch = torch.export.Dim("batch")
    return ({0: batch},) * len(inputs)


FORMATS: Registry[Format] = Registry("export format")
FORMATS.register("onnx", Format("model.onnx", write_onnx, ("onnx", "onnxscript")))
FORMATS.register("torchscript", Format("model.torchscript.pt", write_torchscript))
FORMATS.register("torch-export", Format("model.pt2", write_torch_export))


def checked_formats(names: Sequence[str]) -> tuple[str, ...]:
    """The formats, each once, by the names that they are listed under. Raises OptionsError for one that cannot be
    written here.
    """
    try:
        found = tuple(dict.fromkeys(map(FORMATS.canonical, names)))
    except OptionsError as error:
        raise OptionsError(f"--export: {error}") from None
    for name in found:
        packages = FORMATS[name].packages
        if not all(importlib.util.find_spec(package) for package in packages):
            raise OptionsError(f"--export {name} needs {' and '.join(packages)}: pip install 'nnlo[export]'")
    return found


class Exports:
    """The files of a run that hold its model, by format. inputs: positional arguments, to trace the model with."""

    def __init__(self, paths: Mapping[str, Path], inputs: Sequence[Tensor]) -> None:
        self.paths = dict(paths)
        self._inputs = tuple(two_samples(value) for value in inputs)

    def check(self, module: nn.Module) -> None:
        """Try every format. Raises OptionsError for a model that one of them cannot hold."""
        with tempfile.TemporaryDirectory(prefix="nnlo-export-") as scratch:
            for name, path in self.paths.items():
                self._write(name, module, Path(scratch) / path.name)

    def write(self, module: nn.Module) -> tuple[Path, ...]:
        """Write every file, whole or not at all. Raises DataError where one cannot be written."""
        for name, path in self.paths.items():
            with replacing(path) as scratch:
                self._write(name, module, scratch)
        return tuple(self.paths.values())

    def _write(self, name: str, module: nn.Module, path: Path) -> None:
        try:
            with quiet(), torch.random.fork_rng(devices=[]):
                twin = own_memory(module)
                with evaluating(twin):
                    FORMATS[name].write(twin, self._inputs, path)
        except OSError:
            raise
        except Exception as error:
            raise OptionsError(f"--export {name}: the model cannot be exported ({describe(error)}): drop it") from error


def two_samples(value: Tensor) -> Tensor:
    """The first two samples: a batch of one would be taken for the only size there is."""
    return torch.cat([value, value])[:2]


def own_memory(module: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers are no parts of larger tensors, which would be written with them."""
    twin = copy.deepcopy(module).cpu()
    for part in twin.modules():
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.clone()
    return twin


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporters tell their developers; that a trace may be wrong is still said."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.filterwarnings("ignore", "# The axis name", UserWarning)
            yield
    finally:
        logger.setLevel(level)
