"""The table of modes: one row a mode and setting. A new mode adds its rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nnlo import Algo


@dataclass(frozen=True)
class Row:
    """A mode with its options; its optimizer, and rates and epochs for the quadratic and for the digits.

    `distance`: how close to the quadratic's minimum it comes, `accuracy`: what it reaches on the digits' test set.
    `moves`: whether it moves weights whose gradient is 0, as votes do that have no zero.
    """

    mode: str
    options: dict[str, Any] = field(default_factory=dict)
    optimizer: str | None = "sgd"
    quadratic: dict[str, Any] = field(default_factory=lambda: {"lr": 0.05})
    digits: dict[str, Any] = field(default_factory=lambda: {"lr": 0.1})
    quadratic_epochs: int = 20
    digits_epochs: int = 15
    distance: float = 1e-6
    accuracy: float = 0.93
    moves: bool = False

    @property
    def id(self) -> str:
        return "-".join([self.mode, *(f"{key}={value}" for key, value in self.options.items())])

    def algo(self, loss: str, settings: dict[str, Any], **more: Any) -> Algo:
        return Algo(self.optimizer, mode=self.mode, loss=loss, **{**self.options, **settings}, **more)


TABLE = [
    Row("downpour"),
    Row("downpour", {"synchronous": True}, digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    Row("downpour", {"sync_every": 3}, digits={"lr": 0.15}, quadratic={"lr": 0.1}),
    Row("downpour", {"sync_every": 3, "local_lr": 0.02}, digits={"lr": 0.15}, quadratic={"lr": 0.1}),
    Row(
        "downpour", {"sync_every": 2, "local_lr": 0.02, "synchronous": True}, digits={"lr": 0.3}, quadratic={"lr": 0.2}
    ),
    Row("downpour", {"compress": "fp16", "error_feedback": True}),
    Row("allreduce", digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    Row("allreduce", {"sync_every": 2}, digits={"lr": 0.4}, quadratic={"lr": 0.2}),
    Row("allreduce", {"compress": "bf16", "error_feedback": True}, digits={"lr": 0.3}, quadratic={"lr": 0.1}),
]
