"""What user code gives a manager: wrong kinds and sizes are told when it is made, each in one line."""

from __future__ import annotations

from nnlo.data.base import Data
from nnlo.errors import OptionsError
from nnlo.model import ModelBuilder
from nnlo.training.algo import Algo
from nnlo.training.callbacks import Callback


def check_kinds(data: object, val_data: object, algo: object, model_builder: object, callbacks: object) -> None:
    """Raises OptionsError for what is not an instance of nnlo's class, such as a torch module for a builder."""
    check_kind("data", data, Data)
    check_kind("val_data", data if val_data is None else val_data, Data)
    check_kind("algo", algo, Algo)
    check_kind("model_builder", model_builder, ModelBuilder)
    if isinstance(callbacks, Callback):
        raise OptionsError(f"callbacks must be a list: give [{type(callbacks).__name__}()]")


def check_kind(name: str, given: object, kind: type) -> None:
    """Raises OptionsError where `given` is no instance of `kind`."""
    if not isinstance(given, kind):
        what = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
        raise OptionsError(f"{name} must be a nnlo.{kind.__name__}, not {what}")


def check_seed(seed: object) -> None:
    """Raises OptionsError for what numpy and torch both refuse, or take for another seed."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise OptionsError(f"--seed must be a whole number, at least 0, not {seed!r}")


def check_ranks(num_masters: object, num_processes: object) -> None:
    """Raises OptionsError for more than one master, and for workers of more than one process."""
    if num_masters != 1:
        raise OptionsError(
            f"--num-masters {num_masters}: several masters are not there yet: 1 is the only value that works now"
        )
    if num_processes != 1:
        raise OptionsError(
            f"--num-processes {num_processes}: workers of several processes are not there yet: "
            "1 is the only value that works now"
        )
