"""When to stop before the last epoch: the rules, and the text they are written in.

    EarlyStopping.of("val_loss,<,4")      no new lowest val_loss in 4 validations
    EarlyStopping.of("val_loss,~<,4")     the mean of the last 4 is not below that of the 4 before
    TargetMetric.of("val_acc,>,0.97")     the first value above 0.97

Rules are callbacks: the master takes the decision, at a validation point, and all ranks obey it at the next one.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

from nnlo.errors import OptionsError
from nnlo.training.callbacks import Callback, Logs
from nnlo.training.measured import LESS_IS_BETTER, MORE_IS_BETTER, canonical, measured_figure

Compare = Callable[[float, float], bool]
COMPARISONS: dict[str, Compare] = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}


class StoppingRule(Callback):
    """Watches one figure: each validation's where its name begins with val_, each epoch's otherwise."""

    flag: ClassVar[str]
    metric: str

    @property
    def name(self) -> str:
        """Of the option that asks for it."""
        return self.flag.lstrip("-").replace("-", "_")

    def stops(self, value: float) -> str | None:
        """Take in the next value; why to stop, or None."""
        raise NotImplementedError

    def begin(self) -> None:
        """Forget what was seen."""

    def on_train_begin(self, logs: Logs) -> None:
        self.begin()

    def check(self, measured: Collection[str]) -> None:
        measured_figure(self.metric, measured, self.flag)

    def on_test_end(self, logs: Logs) -> None:
        if self.metric.startswith("val_"):
            self._see(logs[self.metric])

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        if not self.metric.startswith("val_"):
            self._see(logs[self.metric])

    def _see(self, value: float) -> None:
        reason = self.stops(value)
        if reason is not None and not self.manager.stop_training:
            self.manager.stop(f"{self.flag} {self}: {reason}")


@dataclass(eq=False)
class EarlyStopping(StoppingRule):
    """Stops where `metric` no longer gets better: `comparison` < or > for `patience` values against the best so far,
    ~< or ~> by the mean of the last `patience` values against that of as many before. NaN is never better.
    """

    metric: str
    comparison: str
    patience: int
    flag: ClassVar[str] = "--early-stopping"

    def __post_init__(self) -> None:
        self.metric = canonical(self.metric)
        if self.comparison not in ("<", ">", "~<", "~>"):
            raise OptionsError(f"{self.flag}: comparison {self.comparison!r} is none of <, >, ~<, ~>")
        if isinstance(self.patience, bool) or not isinstance(self.patience, int) or self.patience < 1:
            raise OptionsError(f"{self.flag}: the patience must be a whole number, at least 1, not {self.patience!r}")
        self._better = COMPARISONS[self.comparison.removeprefix("~")]
        self._check_direction()
        self.begin()

    def _check_direction(self) -> None:
        """Whoever waits for a loss to rise has the sign the wrong way round."""
        kind, sign = self.metric.removeprefix("val_"), self.comparison.removeprefix("~")
        wanted = "<" if kind in LESS_IS_BETTER else ">" if kind in MORE_IS_BETTER else sign
        if sign != wanted:
            size = "smaller" if wanted == "<" else "larger"
            right = f"{self.metric},{self.comparison.replace(sign, wanted)},{self.patience}"
            raise OptionsError(f"{self.flag} {self}: {self.metric} is better when it is {size}: write '{right}'")

    def begin(self) -> None:
        self._seen: list[float] = []
        self._best, self._since = math.nan, 0

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self._seen, "best": self._best, "since": self._since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._seen, self._best, self._since = list(state["seen"]), state["best"], state["since"]

    def __str__(self) -> str:
        return f"{self.metric},{self.comparison},{self.patience}"

    @classmethod
    def of(cls, text: str) -> EarlyStopping:
        """From "metric,comparison,patience". Raises OptionsError."""
        metric, comparison, patience = three_parts(text, cls.flag, "metric,comparison,patience", "val_loss,~<,4")
        try:
            return cls(metric, comparison, int(patience))
        except ValueError:
            raise OptionsError(
                f"{cls.flag}: the patience must be a whole number, at least 1, not {patience!r}"
            ) from None

    def stops(self, value: float) -> str | None:
        return self._means(value) if self.comparison.startswith("~") else self._against_best(value)

    def _against_best(self, value: float) -> str | None:
        if self._better(value, self._best) or (math.isnan(self._best) and not math.isnan(value)):
            self._best, self._since = value, 0
            return None
        self._since += 1
        return (
            f"nothing better than {self._best:g} in the last {self.patience}" if self._since >= self.patience else None
        )

    def _means(self, value: float) -> str | None:
        self._seen = [*self._seen, value][-2 * self.patience :]
        if len(self._seen) < 2 * self.patience:
            return None
        before, now = fmean(self._seen[: self.patience]), fmean(self._seen[self.patience :])
        return None if self._better(now, before) else f"a mean of {now:g} after one of {before:g}"


@dataclass(eq=False)
class TargetMetric(StoppingRule):
    """Stops as soon as `metric` compares with `target` as wanted: `comparison` is <, >, <= or >=."""

    metric: str
    comparison: str
    target: float
    flag: ClassVar[str] = "--target-metric"

    def __post_init__(self) -> None:
        self.metric = canonical(self.metric)
        if self.comparison not in COMPARISONS:
            raise OptionsError(f"{self.flag}: comparison {self.comparison!r} is none of {', '.join(COMPARISONS)}")
        if not isinstance(self.target, (int, float)) or not math.isfinite(self.target):
            raise OptionsError(f"{self.flag}: the target must be a finite number, not {self.target!r}")

    def __str__(self) -> str:
        return f"{self.metric},{self.comparison},{self.target:g}"

    @classmethod
    def of(cls, text: str) -> TargetMetric:
        """From "metric,comparison,number". Raises OptionsError."""
        metric, comparison, target = three_parts(text, cls.flag, "metric,comparison,number", "val_acc,>,0.97")
        try:
            return cls(metric, comparison, float(target))
        except ValueError:
            raise OptionsError(f"{cls.flag}: the target must be a finite number, not {target!r}") from None

    def stops(self, value: float) -> str | None:
        return f"reached {value:g}" if COMPARISONS[self.comparison](value, self.target) else None


def three_parts(text: Any, flag: str, form: str, example: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")] if isinstance(text, str) else []
    if len(parts) != 3 or not all(parts):
        raise OptionsError(f"{flag} {text!r}: expected {form}, quoted, such as '{example}'")
    return parts


def stopping_rules(early_stopping: Any, target_metric: Any) -> list[StoppingRule]:
    """The rules that these texts (or rules, or None) ask for. Raises OptionsError."""
    rules: list[StoppingRule] = []
    for kind, given in ((EarlyStopping, early_stopping), (TargetMetric, target_metric)):
        if given is not None:
            rules.append(given if isinstance(given, kind) else kind.of(given))
    return rules
