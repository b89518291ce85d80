"""SGD with Nesterov's momentum as EAMSGD has it, with gradients that are taken ahead of the weights.

Zhang, Choromanska, LeCun 2015 (arXiv 1412.6651), algorithm 2. With weights x, velocity v, rate eta, momentum delta:

    v = delta v - eta g(x + delta v);  x += v

torch's form of it keeps x + delta v alone; here it is x that workers exchange.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class LookAheadSGD:
    """`probe` and `step` in turn; weight decay is that of the point ahead, as in torch."""

    def __init__(self, vector: Tensor, rate: float, momentum: float, weight_decay: float = 0.0) -> None:
        self.velocity = torch.zeros_like(vector)
        self.lr = self._rate = rate
        self._momentum, self._decay = momentum, weight_decay

    def probe(self, x: Tensor) -> None:
        """From x, of shape (n,), to the point ahead, in place."""
        x.add_(self.velocity, alpha=self._momentum)

    def step(self, x: Tensor, gradient: Tensor) -> None:
        """From the point ahead to the new x, in place; `gradient` may be overwritten."""
        if self._decay:
            gradient.add_(x, alpha=self._decay)
        x.sub_(self.velocity, alpha=self._momentum)
        self.velocity.mul_(self._momentum).sub_(gradient, alpha=self.lr)
        x.add_(self.velocity)

    def scale(self, factor: float) -> None:
        self.lr = factor * self._rate

    def state_dict(self) -> dict[str, Any]:
        return {"velocity": self.velocity, "lr": self.lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.velocity.copy_(state["velocity"])
        self.lr = state["lr"]
