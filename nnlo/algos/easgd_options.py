"""The options of elastic averaging, and what they come to with a number of workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from nnlo.algos.base import ServerOptions
from nnlo.algos.worker_optimizer import SGD_RATE, WorkerOptimizerOptions
from nnlo.compress.options import CompressOptions
from nnlo.errors import OptionsError
from nnlo.options import option


@dataclass(frozen=True, kw_only=True)
class EasgdOptions(ServerOptions, WorkerOptimizerOptions, CompressOptions):
    """Elastic averaging SGD (--mode easgd).

    Programs give alpha itself as `elastic_force`, which is kept in `elastic_alpha`.
    """

    elastic_force: float = option(
        0.9,
        help="beta: how hard centre and workers pull each other; one of M workers has alpha = beta / M",
        metavar="BETA",
        at_least=0,
    )
    elastic_alpha: float | None = option(
        None, help="what a worker and the centre close of their distance in one exchange", at_least=0, flag=False
    )
    elastic_lr: float | None = option(
        None, help=f"learning rate of the workers' own SGD (default {SGD_RATE:g})", metavar="RATE", at_least=0
    )
    elastic_momentum: float | None = option(
        None,
        help="momentum of the workers' own SGD, which makes it EAMSGD (default 0)",
        metavar="DELTA",
        at_least=0,
        below=1,
    )
    elastic_order: str = option(
        "after",
        help="exchange after a worker's step, or before it as in the paper (the step's gradient is then that of the "
        "weights before the exchange)",
        choices=lambda: ("before", "after"),
    )

    @classmethod
    def from_keywords(cls, **keywords: Any) -> Self:
        alpha = keywords.pop("elastic_force", None)
        try:
            return cls(**keywords, elastic_alpha=alpha)
        except OptionsError as error:
            raise OptionsError(str(error).replace("--elastic-alpha", "elastic_force (alpha)")) from None

    def check(self) -> None:
        for name, setting in (("--elastic-lr", self.elastic_lr), ("--elastic-momentum", self.elastic_momentum)):
            if setting is not None and self.worker_optimizer != "sgd":
                raise OptionsError(
                    f"{name} is for --worker-optimizer sgd, not {self.worker_optimizer}: "
                    "give --worker-optimizer-params, or drop it"
                )
        self._check_twice()
        super().check()
        if self.error_feedback:
            raise OptionsError(
                "--error-feedback: --mode easgd sends what workers and centre differ by, where the next exchange finds "
                "again what compression left out: drop it"
            )

    def _check_twice(self) -> None:
        """Raises OptionsError for a setting of SGD beside the flag that goes before it."""
        flags = {"lr": "--elastic-lr", "learning_rate": "--elastic-lr"} if self.elastic_lr is not None else {}
        if self.elastic_momentum is not None:
            flags |= dict.fromkeys(("momentum", "nesterov", "dampening"), "--elastic-momentum")
        for name in self.worker_optimizer_params:
            if name in flags:
                raise OptionsError(f"--worker-optimizer-params: {name} and {flags[name]} set the same: drop one")

    @property
    def worker_settings(self) -> dict[str, Any]:
        rate = {} if self.elastic_lr is None else {"lr": self.elastic_lr}
        return {**super().worker_settings, **rate}

    def alpha(self, workers: int) -> float:
        """What is closed of a distance in one exchange; `workers`: the children of one master."""
        return self.elastic_force / workers if self.elastic_alpha is None else self.elastic_alpha

    def instability(self, workers: int) -> str:
        """What is wrong with the force: too large for weights to settle even where no gradient acts; empty if nothing.

        Without gradients x - w is multiplied by 1 - 2 alpha in an exchange, but the sum of x_i - w over all workers by
        1 - (M + 1) alpha where it is synchronous.
        """
        alpha = self.alpha(workers)
        limit = 2 / (workers + 1) if self.synchronous else 1.0
        if alpha < limit:
            return ""
        how, given, most = "synchronous " * self.synchronous, f"alpha {alpha:g}", f"{limit:g}"
        if self.elastic_alpha is None:
            given, most = f"--elastic-force {self.elastic_force:g} ({given})", f"{limit * workers:g}"
        return (
            f"{given} with {workers} {how}worker{'s' * (workers != 1)}: the weights do not settle at {most} or more: "
            "give less"
        )

    def recorded(self) -> dict[str, Any]:
        """With the force that was given, beta or alpha."""
        given = {} if self.elastic_alpha is None else {"elastic_force": None, "elastic_alpha": self.elastic_alpha}
        return {**super().recorded(), **given}
