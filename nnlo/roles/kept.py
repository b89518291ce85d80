"""What a checkpoint keeps of an algorithm's state."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor

from nnlo.algos import Algorithm
from nnlo.algos.base import State


def kept(algorithm: Algorithm, state: State, update: Tensor | None = None) -> State:
    """The state as plain values and tensors, without what is `fixed` and what lies in the memory of the update."""
    return {
        name: value.state_dict() if hasattr(value, "state_dict") else value
        for name, value in state.items()
        if name not in algorithm.fixed and not same_memory(value, update)
    }


def put_back(state: State, saved: State) -> None:
    """Continue with what was kept; memory that others look at stays where it is."""
    for name, value in saved.items():
        if hasattr(state.get(name), "load_state_dict"):
            state[name].load_state_dict(value)
        elif isinstance(value, Tensor) and isinstance(state.get(name), Tensor):
            state[name].copy_(value)
        else:
            state[name] = value


def divided(saved: State, alike: Collection[str]) -> tuple[State, State]:
    """What a worker has for itself, and what is the same on all of them."""
    own = {name: value for name, value in saved.items() if name not in alike}
    return own, {name: value for name, value in saved.items() if name in alike}


def same_memory(value: Any, update: Tensor | None) -> bool:
    return isinstance(value, Tensor) and update is not None and value.data_ptr() == update.data_ptr()
