"""A figure that is watched, and which of two values of it is the better one."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from nnlo.errors import OptionsError
from nnlo.model import METRICS

LESS_IS_BETTER = ("loss", "mae", "mse")
MORE_IS_BETTER = ("acc", "binary_acc", "top5")
MODES = ("min", "max")


@dataclass(frozen=True)
class Monitor:
    """`name` as histories have it, for example val_loss; `mode` min or max."""

    name: str
    mode: str

    @property
    def validated(self) -> bool:
        """Whether validations give it, also those inside epochs."""
        return self.name.startswith("val_")

    def better(self, value: float, best: float) -> bool:
        """Whether `value` is better than `best`, or the first where that is NaN; it has to be finite."""
        ahead = value < best if self.mode == "min" else value > best
        return math.isfinite(value) and (ahead or math.isnan(best))


def check_mode(mode: str | None, flag: str) -> None:
    if mode is not None and mode not in MODES:
        raise OptionsError(f"{flag}: unknown direction {mode!r}: choose one of {', '.join(MODES)}")


def monitor_of(name: str, mode: str | None, measured: Collection[str], flag: str) -> Monitor:
    """The monitor of a figure among those `measured`; mode None is what the figure's kind says.

    Raises OptionsError, naming `flag`, for what is not measured, and where the kind does not say.
    """
    known = measured_figure(name, measured, flag)
    return Monitor(known, mode or direction(known, flag))


def measured_figure(name: str, measured: Collection[str], flag: str) -> str:
    """The figure's name in histories. Raises OptionsError, naming `flag`, for what is not measured."""
    known = canonical(name)
    if known not in measured:
        hint = "; val_ figures need --val-data" if not any(one.startswith("val_") for one in measured) else ""
        raise OptionsError(f"{flag} {name}: not measured: choose one of {', '.join(measured)}{hint}")
    return known


def direction(name: str, flag: str) -> str:
    kind = name.removeprefix("val_")
    if kind in (*LESS_IS_BETTER, *MORE_IS_BETTER):
        return "min" if kind in LESS_IS_BETTER else "max"
    raise OptionsError(f"{flag} {name}: is less of it better, or more? give {name},min or {name},max")


def canonical(name: str) -> str:
    """`val_accuracy` as `val_acc`; names of no metric as they are."""
    prefix = "val_" if name.startswith("val_") else ""
    kind = name.removeprefix(prefix)
    return prefix + (METRICS.canonical(kind) if kind in METRICS else kind)
