"""SGD with Nesterov's momentum as EAMSGD has it, with gradients that are taken ahead of the weights.

Zhang, Choromanska, LeCun 2015 (arXiv 1412.6651), algorithm 2. With weights x, velocity v, rate eta, momentum delta:

    v = delta v - eta g(x + delta v);  x += v

torch's form of it keeps x + delta v alone. Here both are to be had, since it is x that is averaged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class LookAheadSGD:
    """Steps the point y = x + delta v that gradients are taken at; weight decay is that of y, as in torch."""

    def __init__(self, vector: Tensor, rate: float, momentum: float, weight_decay: float = 0.0) -> None:
        self.velocity = torch.zeros_like(vector)
        self.lr = self._rate = rate
        self._momentum, self._decay = momentum, weight_decay

    def step(self, y: Tensor, gradient: Tensor) -> None:
        """All of shape (n,); `gradient` may be overwritten."""
        if self._decay:
            gradient.add_(y, alpha=self._decay)
        self.rewind(y)
        self.velocity.mul_(self._momentum).sub_(gradient, alpha=self.lr)
        y.add_(self.velocity, alpha=1 + self._momentum)

    def rewind(self, y: Tensor) -> None:
        """From y to x, in place."""
        y.sub_(self.velocity, alpha=self._momentum)

    def scale(self, factor: float) -> None:
        self.lr = factor * self._rate

    def state_dict(self) -> dict[str, Any]:
        return {"velocity": self.velocity, "lr": self.lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.velocity.copy_(state["velocity"])
        self.lr = state["lr"]
