"""Weights as files: for safetensors' load_model, and for load_state_dict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from nnlo.errors import DataError
from nnlo.training.atomic import replacing


class WeightFiles(NamedTuple):
    """The same weights twice: for safetensors' load_model, and for load_state_dict."""

    safetensors: Path
    pt: Path


def write_weights(paths: WeightFiles, module: nn.Module) -> None:
    """All parameters and buffers, also frozen ones, on the CPU; tied ones are stored once and loaded as tied.

    Each file is replaced as a whole. Raises DataError.
    """
    state = detached(module)
    try:
        with replacing(paths.safetensors) as scratch:
            save_file(untied(state), scratch, metadata={"format": "pt"})
        with replacing(paths.pt) as scratch, open(scratch, "wb") as file:
            torch.save(state, file)
    except (SafetensorError, RuntimeError) as error:  # what the two make of a full disk
        reason = str(error).partition("\n")[0]
        raise DataError(f"{paths.pt.parent}: cannot write the weights ({reason}): make room there") from error


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
