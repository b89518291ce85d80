"""Synchronous data parallel training: the mean gradient of all workers, and the same step on each.

    all   g = sum b_i g_i / sum b_i;  x <- Opt(x, g)

with b the samples behind a worker's gradient, so that M workers with batch b step as one process with batch M b.
With tau batches behind an update, g_i is their mean by samples, all of them taken at the same x. A gradient that
travels as it is may be reduced in parts, the first of them while the backward pass still computes the others
(Li et al. 2020, "PyTorch Distributed", arXiv 2006.15704, section 3.2.3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from nnlo.algos.base import CollectiveAlgorithm, Place, State, SyncEveryOptions
from nnlo.algos.mean_gradient import MeanGradient
from nnlo.compress.options import CompressOptions
from nnlo.errors import OptionsError
from nnlo.options import option

MIB = 2**20
#: What is reduced together where nothing is said.
BUCKET_MIB = 1.0


@dataclass(frozen=True, kw_only=True)
class AllreduceOptions(SyncEveryOptions, CompressOptions):
    """Synchronous data parallel (--mode allreduce)."""

    reduces = True

    bucket_mib: float | None = option(
        None,
        help="MiB of the gradient that are reduced together, while the backward pass still goes on; 0 reduces it "
        f"whole, afterwards (default {BUCKET_MIB:g})",
        metavar="MIB",
        at_least=0,
    )

    def check(self) -> None:
        super().check()
        if self.bucket_mib is None or self.whole is None:
            return
        raise OptionsError(f"--bucket-mib has no effect with {self.whole}: drop one of them")

    @property
    def whole(self) -> str | None:
        """The option for which the gradient is reduced whole; None where there is none."""
        if self.sync_every > 1:
            return f"--sync-every {self.sync_every}"
        return f"--compress {self.compress}" if self.codec else None

    @property
    def bucket_bytes(self) -> int:
        """Size of the parts that are reduced by themselves; 0 for none."""
        mib = BUCKET_MIB if self.bucket_mib is None else self.bucket_mib
        return 0 if self.whole else math.ceil(mib * MIB)


class Allreduce(MeanGradient, CollectiveAlgorithm):
    """The step of the module's docstring."""

    sends_gradient = True
    alike = frozenset(("optimizer",))

    def __init__(self, options: AllreduceOptions) -> None:
        super().__init__(options.sync_every)
        self.codec, self.feedback = options.codec, options.feedback
        self.bucket_bytes = options.bucket_bytes

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        return {**self.summing(update), "optimizer": place.build_optimizer(x)}

    def apply(self, x: Tensor, merged: Tensor, state: State) -> None:
        state["optimizer"].step(x, merged)

    def refused(self, x: Tensor, state: State) -> None:
        state["samples"] = 0
