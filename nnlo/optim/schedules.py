"""Schedules of the learning rate: a factor of it, as a function of the epochs on the master's clock.

    from nnlo.optim import Schedule
    Schedule.of("cosine", {"end": 0.01}, warmup=0.5).factor(epoch=3.2, epochs=10)

An epoch has a fraction here: it is the number of samples applied to the centre over those of the training
data, so that a schedule means the same with any number of workers and any batch size.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from nnlo.errors import OptionsError
from nnlo.options import Options, option
from nnlo.registry import Registry

Function: TypeAlias = "Callable[[float], float]"

#: Points at which a schedule is looked at before training.
LOOKED_AT = 1000


@dataclass(frozen=True, kw_only=True)
class Schedule(Options):
    """Base of all schedules: a linear warm-up from 0 over `warmup` epochs, then what `decay` says."""

    warmup: float = option(0.0, help="epochs of linear warm-up before the schedule begins", at_least=0)

    @classmethod
    def of(
        cls, what: str | Schedule | Function | None = None, params: Mapping[str, Any] | None = None, warmup: float = 0.0
    ) -> Schedule:
        """A schedule by its name and parameters, of a function of the epoch, or as it is. Raises OptionsError."""
        if isinstance(what, Schedule) or (callable(what) and not isinstance(what, str)):
            if params or warmup:
                raise OptionsError("schedule: parameters and warm-up go with the name of a schedule")
            return what if isinstance(what, Schedule) else ByFunction(function=what)
        kind = SCHEDULES[what or "constant"]
        known = [field.name for field in fields(kind) if field.name != "warmup"]
        if unknown := sorted(set(params or {}) - set(known)):
            raise unknown_parameter(what or "constant", unknown[0], known)
        if warmup < 0:
            raise OptionsError(f"--warmup must be at least 0, not {warmup:g}")
        try:
            return kind(warmup=warmup, **(params or {}))
        except OptionsError as error:
            raise OptionsError(f"--schedule-params: {str(error).removeprefix('--')}") from None

    @abstractmethod
    def decay(self, epoch: float, epochs: float) -> float:
        """The factor at `epoch` of `epochs`, both counted from the end of the warm-up."""

    def factor(self, epoch: float, epochs: float) -> float:
        """What the learning rate is multiplied by when the clock is at `epoch` of `epochs`."""
        if epoch < self.warmup:
            return epoch / self.warmup
        return self.decay(epoch - self.warmup, epochs - self.warmup)

    def checked(self, epochs: int) -> Schedule:
        """This schedule, if it makes sense over so many epochs. Raises OptionsError."""
        if self.warmup > epochs:
            raise OptionsError(f"--warmup {self.warmup:g} is longer than --epochs {epochs}: warm up for less")
        for point in range(LOOKED_AT + 1):
            epoch = epochs * point / LOOKED_AT
            factor = self._attempt(epoch, epochs)
            if not (math.isfinite(factor) and factor >= 0):
                raise OptionsError(
                    f"--schedule: in epoch {epoch:.3g} the learning rate would be multiplied by {factor:g}: "
                    "give parameters that keep it finite and not negative (--schedule-params)"
                )
        return self

    def recorded(self) -> dict[str, Any]:
        names = [name for name in SCHEDULES if SCHEDULES[name] is type(self)]
        return {"name": names[0] if names else type(self).__name__, **super().recorded()}

    def _attempt(self, epoch: float, epochs: float) -> float:
        try:
            return float(self.factor(epoch, epochs))
        except OverflowError:
            return math.inf


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The rate stays."""

    def decay(self, epoch: float, epochs: float) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Step(Schedule):
    """The rate is multiplied by `by` every so many epochs."""

    every: float = option(10.0, help="epochs between two steps", above=0)
    by: float = option(0.1, help="what each step multiplies the rate by", above=0)

    def decay(self, epoch: float, epochs: float) -> float:
        return float(self.by ** math.floor(epoch / self.every))


@dataclass(frozen=True, kw_only=True)
class Exponential(Schedule):
    """The rate is multiplied by `by` once an epoch, smoothly."""

    by: float = option(0.9, help="what an epoch multiplies the rate by", above=0)

    def decay(self, epoch: float, epochs: float) -> float:
        return float(self.by**epoch)


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """The rate falls along half a cosine to `end` of itself (Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5)."""

    end: float = option(0.0, help="the share of the rate that is left at the end", at_least=0)

    def decay(self, epoch: float, epochs: float) -> float:
        done = min(1.0, epoch / epochs) if epochs > 0 else 1.0
        return self.end + (1.0 - self.end) * 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True, kw_only=True)
class ByFunction(Schedule):
    """A user's own function of the epoch (with a fraction): what the rate is multiplied by."""

    function: Callable[[float], float] = option(None, help="a function of the epoch")

    def decay(self, epoch: float, epochs: float) -> float:
        value = self.function(epoch)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise OptionsError(
                f"--schedule: the function gives {value!r} for epoch {epoch:.3g}: it must return a number"
            ) from None

    def recorded(self) -> dict[str, Any]:
        return {"name": getattr(self.function, "__qualname__", repr(self.function))}


SCHEDULES: Registry[type[Schedule]] = Registry("schedule")
SCHEDULES.register("constant", Constant)
SCHEDULES.register("step", Step)
SCHEDULES.register("exponential", Exponential)
SCHEDULES.register("cosine", Cosine)


def unknown_parameter(schedule: str, name: str, known: Sequence[str]) -> OptionsError:
    """The error for a parameter that the schedule lacks, with the schedules that have it."""
    others = [one for one in SCHEDULES if name in {field.name for field in fields(SCHEDULES[one])} - {"warmup"}]
    fix = f"name a --schedule that has it: {', '.join(others)}" if others else "drop it or name another --schedule"
    has = f"it has {', '.join(known)}" if known else "it has none"
    return OptionsError(f"--schedule-params: --schedule {schedule} has no parameter '{name}': {has}; {fix}")
