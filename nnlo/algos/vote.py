"""Votes by bins: each worker says in b bits how large a gradient is beside those that it had there before.

With K = 2**(b - 1), and for each coordinate an upper bound U and a lower bound L of its own, which forget:

    U = max(g, d_max U);  L = min(g, d_min L)
    lin   l = ceil(K g / U) for g > 0;  l = -ceil(K g / L) for g < 0;  l = 0 for g = 0
    exp   as lin, with ln(|g| + 1.0001) / ln(|bound| + 1.0001) in the place of g / bound

and the workers vote on l. The bounds begin as the first gradient; to begin them at 0 gives the same levels, since U
matters where g > 0 alone, and L where g < 0. Zero is one level more than b bits hold, so that levels take b + 1 of
them, or b where a coin makes -1 or +1 of it. With b = 1 this is signSGD, but for a quotient that is too small for
the type, as 1e-45 / 1e3 is for float32: it becomes level 0. The name of exp promises too much: where a bound is
between 1e-4 and 1 its bins are about those of lin, and of smaller bounds all levels are near K.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nnlo.algos.base import State
from nnlo.algos.voting import VoteOptions, Voting
from nnlo.blocks import blocks
from nnlo.errors import OptionsError
from nnlo.options import option

MOST_BITS = 16
#: With more bits there are too many levels to tell of each of them.
MOST_COUNTED_BITS = 8
#: What the logarithms of exp begin at.
OFFSET = 1.0001


def linear_share(size: Tensor, bound: Tensor) -> Tensor:
    """The part that sizes, of shape (n,), have of their bounds, 0 to 1; nan for 0 of 0. In the place of the sizes."""
    return size.div_(bound)


def logarithmic_share(size: Tensor, bound: Tensor) -> Tensor:
    """The same by logarithms, which begin at OFFSET."""
    share = size.add_(OFFSET).log_().div_(bound.add_(OFFSET).log_())
    return share.clamp_(max=1.0)  # a logarithm may be wrong in its last bit


#: The rules by name.
BINNINGS = {"lin": linear_share, "exp": logarithmic_share}


@dataclass(frozen=True, kw_only=True)
class BinnedVoteOptions(VoteOptions):
    """Binned votes (--mode vote)."""

    num_bits: int = option(3, help=f"bits of a level, up to {MOST_BITS}", metavar="B", at_least=1, at_most=MOST_BITS)
    binning: str = option(
        "lin", help="how levels divide the range of a gradient: evenly, or by logarithms", choices=lambda: BINNINGS
    )
    decay_min: float = option(
        0.3,
        help="factor by which the lower bound of a gradient shrinks at each step",
        metavar="FACTOR",
        above=0.0,
        at_most=1.0,
    )
    decay_max: float = option(0.3, help="the same of its upper bound", metavar="FACTOR", above=0.0, at_most=1.0)
    count_usages: bool = option(False, help="record how often each level was voted, and draw it")

    def check(self) -> None:
        super().check()
        if self.count_usages and self.num_bits > MOST_COUNTED_BITS:
            raise OptionsError(f"--count-usages is for --num-bits {MOST_COUNTED_BITS} or less: drop it, or lower those")


class BinnedVote(Voting):
    """The steps of the module's docstring."""

    def __init__(self, options: BinnedVoteOptions) -> None:
        zero = "random" if options.rand_zero else "zero"
        super().__init__(options, most=2 ** (options.num_bits - 1), zero=zero, count=options.count_usages)
        self.options = options

    def memory(self, x: Tensor) -> State:
        return {"upper": torch.zeros_like(x), "lower": torch.zeros_like(x)}

    def vote(self, gradient: Tensor, state: State) -> None:
        for piece, upper, lower in blocks(gradient, state["upper"], state["lower"]):
            self.bin(piece, upper, lower)

    def bin(self, gradient: Tensor, upper: Tensor, lower: Tensor) -> None:
        """Move the bounds, and overwrite the gradient with its level between 0 and the bound on its side."""
        torch.maximum(upper.mul_(self.options.decay_max), gradient, out=upper)
        torch.minimum(lower.mul_(self.options.decay_min), gradient, out=lower)
        sign = gradient.sign()
        bound = torch.maximum(upper * sign, lower * sign)
        share = BINNINGS[self.options.binning](gradient.abs_(), bound)
        share.mul_(self.levels.most).ceil_().mul_(sign).nan_to_num_(0.0)
