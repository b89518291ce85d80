"""What an algorithm is: pure steps on flat tensors with explicit state.

An algorithm knows nothing of MPI, files or clocks. It declares how it exchanges (`synchronous`,
`sync_every`) and where its vectors may lie (`gradient_is_update`,
`reply_is_weights`), and roles read that and never its name. State is a dictionary of tensors and
numbers, so that it can be saved.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from nnlo.optim import FlatOptimizer
from nnlo.options import Options, option

State: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True)
class Lineage:
    """Where an update comes from: centre steps `delay` between the weights read and the step now."""

    sender: int
    version: int
    delay: int
    samples: int


@dataclass(frozen=True)
class Update:
    """A vector of shape (n,) and the samples behind it."""

    vector: Tensor
    lineage: Lineage


@dataclass(frozen=True, kw_only=True)
class ServerOptions(Options):
    """What every mode with a master reads."""

    synchronous: bool = option(False, help="apply one update from every worker together, instead of each as it comes")
    sync_every: int = option(1, help="batches behind one update", metavar="TAU", at_least=1)


class ServerAlgorithm(ABC):
    """Workers exchange with a master that holds the centre weights `w`: an update up, a reply down.

    Class attributes: `gradient_is_update` lets the backward pass write straight into the memory that
    is sent; `reply_is_weights` lets the reply arrive in the memory that the model computes with.
    """

    gradient_is_update = False
    reply_is_weights = False
    synchronous = False
    sync_every = 1

    # On a worker. x: its weights, shape (n,).

    @abstractmethod
    def init(self, x: Tensor, update: Tensor) -> State:
        """State of a worker; `update`, shape (n,), is the memory that `send` fills."""

    @abstractmethod
    def local(self, x: Tensor, gradient: Tensor, samples: int, state: State) -> None:
        """Take in the mean gradient of one batch."""

    @abstractmethod
    def send(self, x: Tensor, state: State) -> Tensor:
        """The update, shape (n,), after `sync_every` batches."""

    @abstractmethod
    def receive(self, x: Tensor, reply: Tensor, state: State) -> None:
        """Take in the master's reply, shape (n,)."""

    # On the master.

    @abstractmethod
    def init_master(self, w: Tensor, optimizer: FlatOptimizer | None) -> State:
        """State of the master."""

    @abstractmethod
    def merge(self, updates: Sequence[Update]) -> Tensor:
        """One vector from the updates of one step, which may be overwritten."""

    @abstractmethod
    def step(self, w: Tensor, merged: Tensor, lineages: Sequence[Lineage], state: State) -> Tensor:
        """Apply `merged` to `w` in place and return what the senders are answered, shape (n,)."""


@dataclass(frozen=True)
class Mode:
    """An entry of the table of modes."""

    options: type[Options]
    build: Callable[[Any], ServerAlgorithm]
    needs_optimizer: bool
