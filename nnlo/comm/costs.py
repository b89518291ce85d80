"""What things cost on the virtual clock, and what goes wrong there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Host:
    """A machine: which ranks (peer ids) live on it, and how many cores they share, or how much of them they have."""

    ranks: tuple[int, ...]
    cores: float = 1


@dataclass(frozen=True)
class Costs:
    """Times in seconds and rates in bytes a second.

    `compute` is the time of one sample on a core of its own, or a function of peer id and samples for
    ranks of unlike speed; `jitter` is the relative standard deviation of a computation's time.
    Who takes or sends a message owes its core `handling` for it, or what a function of peer id and message (uint8)
    says, and `touching` for each byte: what it sends leaves once that is paid, and then it goes on.
    Messages between hosts queue on the sender's and the receiver's link; those within a host do not.
    Ranks are done with a collective at the same time or, by chance, up to `spread` after it is over.
    """

    compute: float | Callable[[int, int], float] = 1e-4
    jitter: float = 0.0
    offload: float = 0.0
    handling: float | Callable[[int, Tensor], float] = 0.0
    touching: float = 0.0
    latency: float = 2e-5
    bandwidth: float = 1.25e9
    local_latency: float = 5e-6
    local_bandwidth: float = 1e10
    notice: float = 1.0
    spread: float = 0.0

    def compute_seconds(self, peer: int, samples: int, stream: np.random.Generator) -> float:
        seconds = self.compute(peer, samples) if callable(self.compute) else self.compute * samples
        return max(0.0, seconds * (1.0 + self.jitter * stream.standard_normal())) if self.jitter else seconds

    def handling_seconds(self, peer: int, message: Tensor) -> float:
        """What `peer` owes for a message that it takes or sends."""
        seconds = self.handling(peer, message) if callable(self.handling) else self.handling
        return seconds + self.touching * message.numel()


class FaultKind(Enum):
    DIE = "die"  # the rank is gone `seconds` after that; its peers notice after another `Costs.notice`
    RAISE = "raise"  # its computation raises
    STALL = "stall"  # its computation takes `seconds` longer


@dataclass(frozen=True)
class Fault:
    """What happens to the rank `peer` at its computation number `step` (from 0)."""

    peer: int
    step: int
    kind: FaultKind
    seconds: float = 0.0


class FaultInjected(RuntimeError):
    """Raised by a computation that a `Fault` makes fail."""
