"""How much longer workers take for a batch than it takes to compute it: by chance, or one of them always.

delays: {kind: gaussian, mean: 0.01, std: 0.005}      seconds a batch, 0 where it would be less
delays: {kind: straggler, worker: 1, seconds: 0.09}   one worker alone
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from nnlo.errors import OptionsError
from nnlo.options import Options, option
from nnlo.registry import Registry


@dataclass(frozen=True, kw_only=True)
class Delay(Options):
    """Base of all kinds: no delay."""

    def seconds(self, worker: int, rng: np.random.Generator) -> float:
        """Of one batch of a worker, numbered from 1."""
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Constant(Delay):
    """The same for all."""

    mean: float = option(0.01, help="seconds", at_least=0)

    def seconds(self, worker: int, rng: np.random.Generator) -> float:
        return self.mean


@dataclass(frozen=True, kw_only=True)
class Gaussian(Delay):
    """Normally distributed, and 0 where that is less."""

    mean: float = option(0.01, help="seconds", at_least=0)
    std: float = option(0.005, help="their standard deviation", at_least=0)

    def seconds(self, worker: int, rng: np.random.Generator) -> float:
        return max(0.0, float(rng.normal(self.mean, self.std)))


@dataclass(frozen=True, kw_only=True)
class Exponential(Delay):
    """Exponentially distributed."""

    mean: float = option(0.01, help="seconds", at_least=0)

    def seconds(self, worker: int, rng: np.random.Generator) -> float:
        return float(rng.exponential(self.mean))


@dataclass(frozen=True, kw_only=True)
class Straggler(Delay):
    """One worker alone, always."""

    mean: float = option(0.09, help="seconds", at_least=0)
    worker: int = option(1, help="the number of that worker", at_least=1)

    def seconds(self, worker: int, rng: np.random.Generator) -> float:
        return self.mean if worker == self.worker else 0.0


DELAYS: Registry[type[Delay]] = Registry("kind of delay")
DELAYS.register("none", Delay)
DELAYS.register("constant", Constant)
DELAYS.register("gaussian", Gaussian)
DELAYS.register("exponential", Exponential)
DELAYS.register("straggler", Straggler)


def delay_of(given: Any) -> Delay:
    """From what a file says: the name of a kind, or its settings with `kind` among them. Raises OptionsError."""
    settings = {"kind": given} if isinstance(given, str) else given
    if not isinstance(settings, Mapping) or not isinstance(settings.get("kind"), str):
        raise OptionsError(f"expected a kind, one of {', '.join(DELAYS)}, or {{kind: ..., mean: ...}}, not {given!r}")
    kind = DELAYS[settings["kind"]]
    known = [field.name for field in fields(kind)]
    rest = {str(name): value for name, value in settings.items() if name != "kind"}
    if unknown := sorted(set(rest) - set(known)):
        raise OptionsError(f"{settings['kind']} has no setting '{unknown[0]}': it has {', '.join(known) or 'none'}")
    try:
        return kind(**rest)
    except OptionsError as error:
        raise OptionsError(str(error).removeprefix("--")) from None


def drawn(delay: Delay, seed: int) -> Callable[[int], float]:
    """The seconds of the next batch of a worker; each has a random stream of its own."""
    streams: dict[int, np.random.Generator] = {}

    def seconds(worker: int) -> float:
        if worker not in streams:
            streams[worker] = np.random.default_rng([seed, worker])
        return delay.seconds(worker, streams[worker])

    return seconds
