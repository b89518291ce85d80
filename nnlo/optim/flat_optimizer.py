"""Optimizers by name, each torch's own class with torch's definitions, on a flat parameter vector."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from nnlo.errors import OptionsError
from nnlo.optim.clip import NO_CLIP, Clip
from nnlo.optim.groups import WHERE, Group
from nnlo.optim.kernels import KERNELS, Kernel
from nnlo.options import flag_of
from nnlo.registry import Registry

#: How torch is to run a step; not for users to set.
INTERNAL = {"params", "foreach", "fused", "capturable", "differentiable", "maximize"}
ALIASES = {"learning_rate": "lr", "epsilon": "eps"}
#: Torch 2.13's fused SGD on the CPU leaves most elements of narrower vectors as they are.
FUSED_TYPES = (torch.float32, torch.float64)
#: Settings that the command line has a flag for.
WITH_FLAG = {"lr", "momentum", "weight_decay"}


@dataclass(frozen=True)
class OptimizerKind:
    """One entry of the table: torch's class, what the name fixes, and the defaults that torch leaves open."""

    torch_class: type[torch.optim.Optimizer]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self) -> list[str]:
        """The keywords that a user may set."""
        known = inspect.signature(self.torch_class.__init__).parameters
        return [name for name in known if name not in INTERNAL | {"self", *self.fixed}]

    @property
    def has_fused(self) -> bool:
        """Whether torch has a fused step for this class on the CPU and the GPU."""
        return self.torch_class in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad)


OPTIMIZERS: Registry[OptimizerKind] = Registry("optimizer")
OPTIMIZERS.register("sgd", OptimizerKind(torch.optim.SGD, defaults={"lr": 0.01}))
OPTIMIZERS.register("momentum", OptimizerKind(torch.optim.SGD, defaults={"lr": 0.01, "momentum": 0.9}))
OPTIMIZERS.register(
    "nesterov", OptimizerKind(torch.optim.SGD, fixed={"nesterov": True}, defaults={"lr": 0.01, "momentum": 0.9})
)
OPTIMIZERS.register("adam", OptimizerKind(torch.optim.Adam))
OPTIMIZERS.register("adamw", OptimizerKind(torch.optim.AdamW))
OPTIMIZERS.register("rmsprop", OptimizerKind(torch.optim.RMSprop))
OPTIMIZERS.register("adadelta", OptimizerKind(torch.optim.Adadelta))
OPTIMIZERS.register("adagrad", OptimizerKind(torch.optim.Adagrad))


def leave_compiler_out() -> None:
    """Have torch's optimizers work without its compiler, which they load at first use to tell it to keep off them.

    That takes every rank a second or two of its start.
    """
    for name in ("add_param_group", "state_dict", "load_state_dict"):
        plain = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if plain is not None and not hasattr(plain, "__dynamo_disable"):
            setattr(plain, "__dynamo_disable", plain)


leave_compiler_out()


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer's name and settings, checked; `build` makes one for a vector."""

    name: str
    settings: Mapping[str, Any]
    fused: bool = True
    clip: Clip = NO_CLIP

    @classmethod
    def of(cls, name: str, settings: Mapping[str, Any], fused: bool = True, clip: Clip = NO_CLIP) -> OptimizerSpec:
        """Check name and settings (`lr` or `learning_rate`, `momentum`, ...); raises OptionsError."""
        name = OPTIMIZERS.canonical(name.lower())
        spec = cls(name, {**OPTIMIZERS[name].defaults, **checked_settings(name, settings)}, fused, clip)
        spec.build(torch.zeros(1))
        return spec

    def build(self, vector: Tensor, groups: Sequence[Group] = ()) -> FlatOptimizer:
        """An optimizer of `vector`, of shape (n,); the groups, where there are any, make up all of it."""
        kind = OPTIMIZERS[self.name]
        fused = self.fused and kind.has_fused and vector.dtype in FUSED_TYPES
        how: dict[str, Any] = {"fused": True} if fused else {"foreach": False}
        parts, described = laid_out(self.name, vector, groups)
        try:
            optimizer = kind.torch_class(described, **kind.fixed, **self.settings, **how)
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            where = f" ({WHERE})" if groups else ""
            raise OptionsError(f"optimizer '{self.name}'{where}: {str(error).splitlines()[0]}") from None
        return FlatOptimizer(optimizer, parts, self.clip, KERNELS.get(kind.torch_class) if fused else None)


def checked_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the optimizer `name` by torch's names. Raises OptionsError for those that it does not have."""
    known = OPTIMIZERS[name].parameters()
    for alias, setting in ALIASES.items():
        if {alias, setting} <= settings.keys():
            raise OptionsError(f"optimizer '{name}': '{setting}' and '{alias}' are the same: give one of them")
    for key, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise OptionsError(f"optimizer '{name}': {key} must be a finite number, not {value}")
    renamed = {ALIASES.get(key, key): value for key, value in settings.items()}
    if unknown := sorted(set(renamed) - set(known)):
        flag = f" ({flag_of(unknown[0])})" if unknown[0] in WITH_FLAG else ""
        raise OptionsError(f"optimizer '{name}' has no setting '{unknown[0]}'{flag}: it has {', '.join(known)}")
    check_numbers(name, renamed)
    return renamed


def check_numbers(name: str, settings: Mapping[str, Any]) -> None:
    """Raises OptionsError for what is no number where torch's default is one."""
    known = inspect.signature(OPTIMIZERS[name].torch_class.__init__).parameters
    for key, value in settings.items():
        if is_number(known[key].default) and not is_number(value):
            raise OptionsError(f"optimizer '{name}': {key} must be a number, not {value!r}")


def is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class Part:
    """A piece of a flat vector: what torch takes for a parameter, of which group, and where it lies."""

    parameter: torch.nn.Parameter
    group: int
    start: int
    stop: int
    whole: bool

    def of(self, vector: Tensor) -> Tensor:
        return vector if self.whole else vector[self.start : self.stop]


def laid_out(name: str, vector: Tensor, groups: Sequence[Group]) -> tuple[list[Part], list[dict[str, Any]]]:
    """The parts of the vector, and the groups of them as torch takes them."""
    parts: list[Part] = []
    described: list[dict[str, Any]] = []
    for place, group in enumerate(groups or [Group({}, ((0, len(vector)),))]):
        own = [
            Part(torch.nn.Parameter(vector[start:stop]), place, start, stop, stop - start == len(vector))
            for start, stop in group.runs
        ]
        described.append({"params": [part.parameter for part in own], **checked_settings(name, group.settings)})
        parts += own
    return parts, described


class FlatOptimizer:
    """A torch optimizer that owns no weights: each step names the vector it works on in place.

    `scale` multiplies the rates that it was made with: that is what a schedule sets. `factor` is by what now.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, parts: Sequence[Part], clip: Clip, kernel: Kernel | None = None
    ) -> None:
        self.optimizer, self._parts, self._clip, self._kernel = optimizer, tuple(parts), clip, kernel
        self._begun = False
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self.factor = 1.0
        # torch wraps step() for hooks, its profiler and its compiler, which is loaded by that; it doubles a small step.
        self._step = inspect.unwrap(type(optimizer).step)

    def step(self, vector: Tensor, gradient: Tensor) -> None:
        """`vector` <- Opt(vector, gradient), both of shape (n,); where it is clipped, `gradient` is overwritten."""
        self._clip(gradient)
        if self._kernel and self._begun:
            groups, state = self.optimizer.param_groups, self.optimizer.state
            for part in self._parts:
                self._kernel(part.of(vector), part.of(gradient), state[part.parameter], groups[part.group])
        else:
            self._torch_step(vector, gradient)

    def _torch_step(self, vector: Tensor, gradient: Tensor) -> None:
        """The step as torch does it, which makes the state."""
        for part in self._parts:
            part.parameter.data, part.parameter.grad = part.of(vector), part.of(gradient)
        with torch.no_grad():
            self._step(self.optimizer)
        for part in self._parts:
            part.parameter.grad = None
        self._begun = True

    def reset(self) -> None:
        """Forget all steps; the rate stays."""
        self.optimizer.state.clear()
        self._begun = False

    def scale(self, factor: float) -> None:
        """Set the rate of each group to `factor` times the one that it was made with."""
        if factor != self.factor:
            self._set_rates(factor)

    def _set_rates(self, factor: float) -> None:
        self.factor = factor
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor

    @property
    def lr(self) -> float:
        """The rate now, of the first group where there are several."""
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        return {**self.optimizer.state_dict(), "factor": self.factor}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
        self._begun = False
        self._set_rates(state["factor"])
