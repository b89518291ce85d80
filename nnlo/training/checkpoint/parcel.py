"""The state of one rank as bytes: tensors as safetensors has them, everything else as JSON beside them.

A tree is made of dictionaries with keys of text or whole numbers, lists, tuples, text, numbers, None and tensors. What
is read back is made of the same and of nothing else, so that no file can have code run.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from nnlo.errors import DataError

Tree: TypeAlias = Any
#: Where the JSON lies among safetensors' own metadata.
KEY = "nnlo"
#: How JSON says what it has no form for.
TENSOR, TUPLE, NUMBERED = "tensor", "tuple", "numbered"


def packed(tree: Tree) -> bytes:
    """The tree as a safetensors file. Raises TypeError for what is none of a tree's kinds."""
    tensors: dict[str, Tensor] = {}
    text = json.dumps(described(tree, tensors))
    return bytes(safetensors.torch.save(tensors, metadata={KEY: text}))


def unpacked(data: bytes, what: str) -> Tree:
    """The tree in these bytes. Raises DataError, which names `what` they are of."""
    try:
        tensors = safetensors.torch.load(data)
        end = 8 + int.from_bytes(data[:8], "little")
        text = json.loads(data[8:end])["__metadata__"][KEY]
        return rebuilt(json.loads(text), tensors)
    except (SafetensorError, KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
        raise DataError(f"{what}: not a part of a checkpoint, or a damaged one ({type(error).__name__})") from None


def described(value: Tree, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON has it; its tensors, copied, go into `tensors`."""
    if isinstance(value, Tensor):
        tensors[name := str(len(tensors))] = value.detach().to("cpu", copy=True).contiguous()
        return {TENSOR: name}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, list):
        return [described(one, tensors) for one in value]
    if isinstance(value, tuple):
        return {TUPLE: [described(one, tensors) for one in value]}
    if isinstance(value, dict):
        return described_mapping(value, tensors)
    raise TypeError(f"a checkpoint has no form for {type(value).__name__}")


def described_mapping(value: dict[Any, Tree], tensors: dict[str, Tensor]) -> Any:
    """Text keys as they are; other ones, and those that would be taken for a sign of ours, as pairs."""
    plain = all(isinstance(key, str) for key in value) and not (value.keys() & {TENSOR, TUPLE, NUMBERED})
    if plain:
        return {key: described(one, tensors) for key, one in value.items()}
    if not all(isinstance(key, (str, int)) for key in value):
        raise TypeError("the keys of a checkpoint are text and whole numbers")
    return {NUMBERED: [[key, described(one, tensors)] for key, one in value.items()]}


def rebuilt(value: Any, tensors: dict[str, Tensor]) -> Tree:
    """The inverse of `described`."""
    if isinstance(value, list):
        return [rebuilt(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    if TENSOR in value:
        return tensors[value[TENSOR]]
    if TUPLE in value:
        return tuple(rebuilt(one, tensors) for one in value[TUPLE])
    if NUMBERED in value:
        return {key: rebuilt(one, tensors) for key, one in value[NUMBERED]}
    return {key: rebuilt(one, tensors) for key, one in value.items()}
