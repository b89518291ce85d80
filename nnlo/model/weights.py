"""Weights out of a file: what is read of it, and which tensors do not fit."""

from __future__ import annotations

import pickle
import textwrap
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nnlo.errors import DataError, describe

#: Tensors named in one complaint.
NAMED_TENSORS = 5
#: Endings that files of weights have; others are read too, if they are such files.
ENDINGS = (".safetensors", ".pt", ".pth", ".bin")
FLAGS = "--weights, --evaluate"
FIT = f"give weights of this model ({FLAGS}), or the --model-params that they were made with"
WRITE = "write it with torch.save(model.state_dict(), ...)"


def load_weights(model: nn.Module, path: Path) -> None:
    """Fill the model from a .safetensors file, or from a state_dict that torch.save wrote.

    Every tensor must be there and fit; tied ones may be there once. Raises DataError, naming those that do not.
    """
    state, own = read_state(path), model.state_dict()
    state.update(absent_twins(own, state))
    if faults := misfits(own, state):
        more = [f"and {len(faults) - NAMED_TENSORS} more"] if len(faults) > NAMED_TENSORS else []
        listed = "; ".join(faults[:NAMED_TENSORS] + more)
        raise DataError(f"weights file '{path}' does not fit the model: {listed}: {FIT}")
    try:
        model.load_state_dict(state)
    except Exception as error:  # what a module's own hooks make of it
        reason = textwrap.shorten(str(error) or describe(error), width=400)
        raise DataError(f"weights file '{path}' does not fit the model: {reason}: {FIT}") from error


def read_state(path: Path) -> MutableMapping[str, Any]:
    """The tensors of a file by name, on the CPU. No code in the file is run. Raises DataError."""
    if not path.is_file():
        raise DataError(f"weights file '{path}' is not there: give a .safetensors or .pt file ({FLAGS})")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise unreadable(path, error) from error
    if not isinstance(state, MutableMapping) or not all(isinstance(name, str) for name in state):
        raise DataError(f"weights file '{path}' holds no state_dict: {WRITE}")
    return state


def unreadable(path: Path, error: Exception) -> DataError:
    """The error for a file that cannot be read. What torch advises for pickled objects, to run them, is left out."""
    if path.suffix not in ENDINGS:
        return DataError(f"'{path}' is no .safetensors or .pt file of weights: give one ({FLAGS})")
    said = "" if isinstance(error, pickle.UnpicklingError) else f" ({describe(error)})"
    return DataError(f"weights file '{path}' is damaged, or holds more than tensors{said}: {WRITE} ({FLAGS})")


def absent_twins(own: Mapping[str, Any], state: Mapping[str, Any]) -> dict[str, Tensor]:
    """What `state` lacks and has under the other name of a tied tensor, as safetensors files do."""
    present = {place(own[name]): value for name, value in state.items() if isinstance(own.get(name), Tensor)}
    missing = [name for name, value in own.items() if name not in state and isinstance(value, Tensor)]
    return {name: present[place(own[name])] for name in missing if own[name].numel() and place(own[name]) in present}


def place(tensor: Tensor) -> tuple[object, ...]:
    """Equal for tensors that are the same memory, seen in the same way."""
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def misfits(own: Mapping[str, Any], state: Mapping[str, Any]) -> list[str]:
    """A few words for each tensor that is missing, unknown or of another shape."""
    return [
        *(f"it lacks {name}" for name in own if name not in state),
        *(f"the model has no {name}" for name in state if name not in own),
        *(
            f"{name} is {size(state[name])} there, {size(value)} in the model"
            for name, value in own.items()
            if name in state and size(state[name]) != size(value)
        ),
    ]


def size(value: Any) -> str:
    """The shape of a tensor, the type of another value."""
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
