"""Optimizers by name, each torch's own class with torch's definitions, on a flat parameter vector."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nnlo.errors import OptionsError
from nnlo.registry import Registry

#: How torch is to run a step; not for users to set.
INTERNAL = {"params", "foreach", "fused", "capturable", "differentiable", "maximize"}
ALIASES = {"learning_rate": "lr", "epsilon": "eps"}


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


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer's name and settings, checked; `build` makes one for a vector."""

    name: str
    settings: Mapping[str, Any]
    fused: bool = True

    @classmethod
    def of(cls, name: str, settings: Mapping[str, Any], fused: bool = True) -> OptimizerSpec:
        """Check name and settings (`lr` or `learning_rate`, `momentum`, ...); raises OptionsError."""
        name = OPTIMIZERS.canonical(name.lower())
        kind = OPTIMIZERS[name]
        for alias, setting in ALIASES.items():
            if {alias, setting} <= settings.keys():
                raise OptionsError(f"optimizer '{name}': '{setting}' and '{alias}' are the same: give one of them")
        renamed = {ALIASES.get(key, key): value for key, value in settings.items()}
        for key, value in settings.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise OptionsError(f"optimizer '{name}': {key} must be a finite number, not {value}")
        if unknown := sorted(set(renamed) - set(kind.parameters())):
            raise OptionsError(
                f"optimizer '{name}' has no setting '{unknown[0]}': it has {', '.join(kind.parameters())}"
            )
        spec = cls(name, {**kind.defaults, **renamed}, fused)
        spec.build(torch.zeros(1))
        return spec

    def build(self, vector: Tensor) -> FlatOptimizer:
        kind = OPTIMIZERS[self.name]
        how: dict[str, Any] = {"fused": True} if self.fused and kind.has_fused else {"foreach": False}
        parameter = torch.nn.Parameter(vector, requires_grad=True)
        try:
            optimizer = kind.torch_class([parameter], **kind.fixed, **self.settings, **how)
        except (ValueError, TypeError) as error:
            raise OptionsError(f"optimizer '{self.name}': {str(error).splitlines()[0]}") from None
        return FlatOptimizer(optimizer, parameter)


class FlatOptimizer:
    """A torch optimizer that owns no weights: each step names the vector it works on in place."""

    def __init__(self, optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> None:
        self.optimizer, self._parameter = optimizer, parameter
        # torch wraps step() for its profiler and for hooks, of which there are none here; it doubles a small step.
        self._step = getattr(type(optimizer).step, "__wrapped__", type(optimizer).step)

    def step(self, vector: Tensor, gradient: Tensor) -> None:
        """`vector` <- Opt(vector, gradient), both of shape (n,)."""
        self._parameter.data = vector
        self._parameter.grad = gradient
        self._step(self.optimizer)
        self._parameter.grad = None

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def state_dict(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
