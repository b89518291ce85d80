"""Signs of gradients and a majority vote: signSGD, and SIGNUM with a momentum on each worker.

Bernstein, Zhao, Azizzadenesheli and Anandkumar, "signSGD with majority vote is communication efficient and fault
tolerant", ICLR 2019 (arXiv 1810.05291), algorithm 1. On worker i with the mean gradient g:

    v_i = (1 - beta) g + beta v_i;  l = sgn v_i;  vote on l with K = 1

The vote is the sign of the sum of signs. The paper's weight decay is that of the optimizer. A zero, be it a
gradient's or a tie's, stays zero, or becomes +1, or -1 or +1 by a coin: the first needs two bits, the others one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nnlo.algos.base import State
from nnlo.algos.voting import ZEROS, VoteOptions, Voting
from nnlo.errors import OptionsError
from nnlo.options import option


@dataclass(frozen=True, kw_only=True)
class SignOptions(VoteOptions):
    """signSGD with majority vote, SIGNUM (--mode sign)."""

    vote_momentum: float = option(
        0.0, help="a worker's momentum, before it takes signs: SIGNUM", metavar="BETA", at_least=0.0, below=1.0
    )
    zero: str | None = option(
        None,
        help="what gradients and votes of zero become: zero (default, 2 bits a parameter), plus or random (1 bit)",
        choices=lambda: ZEROS,
    )

    def check(self) -> None:
        super().check()
        if self.rand_zero and self.zero not in (None, "random"):
            raise OptionsError(f"--rand-zero is --zero random: drop it, or --zero {self.zero}")

    @property
    def zeros_become(self) -> str:
        """One of ZEROS."""
        return self.zero or ("random" if self.rand_zero else "zero")


class Sign(Voting):
    """The steps of the module's docstring."""

    def __init__(self, options: SignOptions) -> None:
        super().__init__(options, most=1, zero=options.zeros_become)
        self.momentum = options.vote_momentum

    def memory(self, x: Tensor) -> State:
        return {"velocity": torch.zeros_like(x)} if self.momentum else {}

    def vote(self, gradient: Tensor, state: State) -> None:
        if self.momentum:
            velocity = state["velocity"].mul_(self.momentum).add_(gradient, alpha=1 - self.momentum)
            torch.sign(velocity, out=gradient)
        else:
            gradient.sign_()
