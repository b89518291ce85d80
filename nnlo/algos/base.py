"""What an algorithm is: pure steps on flat tensors with explicit state.

An algorithm knows nothing of MPI, files or clocks. It declares how it exchanges (its `pattern`, `synchronous`,
`sync_every` ...) and where its vectors may lie, and roles read that and never its name. State is a dictionary of
tensors, numbers and optimizers, so that it can be saved.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from torch import Tensor

from nnlo.compress import Codec, CodecSpec
from nnlo.flat import Layout
from nnlo.optim import FlatOptimizer, Group, OptimizerSpec
from nnlo.options import Options, option

State: TypeAlias = "dict[str, Any]"


class Pattern(Enum):
    """Who exchanges with whom."""

    SERVER = "server"  # workers with a master that holds the centre weights
    COLLECTIVE = "collective"  # workers among themselves, each with the same weights
    GOSSIP = "gossip"  # workers with their neighbours on a graph, each with weights of its own


class Lineage(NamedTuple):
    """Where an update comes from: centre steps `delay` between the weights read and the step now."""

    sender: int
    version: int
    delay: int
    samples: int


class Update(NamedTuple):
    """A vector of shape (n,) and the samples behind it; `workers` whose updates `combine` made it of."""

    vector: Tensor
    lineage: Lineage
    workers: int = 1


@dataclass(frozen=True)
class Place:
    """Whose state is made: number `index` of `workers`, from 1 (0: their master), and what there is to make it with.

    `seed` is the same everywhere. `optimizer` is that of `--optimizer`, None where the mode has none. `neighbours`: how
    many a node of a graph hears in the first round.
    """

    index: int
    workers: int
    layout: Layout
    seed: int = 0
    optimizer: OptimizerSpec | None = None
    groups: tuple[Group, ...] = ()
    neighbours: int = 0

    @property
    def stream(self) -> int:
        """A 63-bit seed of its own."""
        return int(np.random.SeedSequence([self.seed, self.index]).generate_state(1, np.uint64)[0] >> 1)

    def build_optimizer(self, vector: Tensor) -> FlatOptimizer | None:
        """An optimizer of `vector`, shape (n,)."""
        return self.optimizer.build(vector, self.groups) if self.optimizer else None


@dataclass(frozen=True, kw_only=True)
class SyncEveryOptions(Options):
    """Exchanges (every mode)."""

    sync_every: int = option(1, help="batches behind one update", metavar="TAU", at_least=1)


@dataclass(frozen=True, kw_only=True)
class ServerOptions(SyncEveryOptions):
    """Steps together (--mode downpour, easgd)."""

    synchronous: bool = option(False, help="apply one update from every worker together, instead of each as it comes")


class Algorithm(ABC):
    """A worker's side, and what is common to all patterns. x: a worker's weights, shape (n,).

    Class attributes: `gradient_is_update` lets the backward pass write straight into the memory that
    is sent. `sends_gradient`: updates are gradients, which the rate is applied to later. `rate`: the learning rate
    of the workers' own steps, which the history records; NaN where they have none. `rate_flag` is the option of the
    learning rate. `codec` is how updates are compressed, with `feedback` or without; `hears_sent`: whether `sent` is
    to be called with what the codec made of one.

    A checkpoint holds a state but for what is `fixed`, names in it that the place and the options give, and what lies
    in the memory of the update. What is `alike`, by name, is the same on all who hold the same weights.
    """

    pattern: Pattern
    synchronous = False
    sync_every = 1
    gradient_is_update = False
    rate = math.nan
    rate_flag = "--lr"
    codec: CodecSpec | None = None
    feedback = False
    hears_sent = False
    sends_gradient = False
    fixed: frozenset[str] = frozenset()
    alike: frozenset[str] = frozenset()

    def check(self, workers: int, epochs: int) -> None:  # noqa: B027
        """Raises OptionsError for settings that do not go with so many workers or epochs."""

    def batches(self, epoch: int) -> int:
        """Batches that a worker takes before it sends, in this epoch (from 0): at most `sync_every`."""
        return self.sync_every

    def wire(self, layout: Layout) -> Codec[Any] | None:
        """How updates travel; None as they are. Raises OptionsError for a codec that the layout does not go with."""
        return self.codec.build(layout) if self.codec else None

    @abstractmethod
    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        """State of a worker; `update`, shape (n,), is the memory that `send` fills."""

    def start(self, x: Tensor, weights: Tensor, state: State) -> None:
        """Take over the centre's weights as they are, shape (n,): at first, and where this worker's update was refused.

        What gradients are behind an update that was not sent yet is forgotten.
        """
        if x.data_ptr() != weights.data_ptr():
            x.copy_(weights)

    def probe(self, x: Tensor, state: State) -> None:  # noqa: B027
        """The gradient of a batch is about to be taken at x: `local` follows, which may take back what this does."""

    @abstractmethod
    def local(self, x: Tensor, gradient: Tensor, samples: int, state: State) -> None:
        """Take in the mean gradient of one batch."""

    @abstractmethod
    def send(self, x: Tensor, state: State) -> Tensor:
        """The update, shape (n,), after `sync_every` batches or less."""

    def dropped(self, x: Tensor, state: State) -> None:  # noqa: B027
        """What `send` gave was inf or nan and does not leave: what that left in the state is to be mended."""

    def sent(self, x: Tensor, left: Tensor, state: State) -> None:  # noqa: B027
        """A codec made `left`, shape (n,), of the update: that is what the others get."""

    def scale(self, factor: float, state: State) -> None:
        """The schedule's factor of the learning rate from now on, on a worker or on the master.

        What goes by it by itself finds it as `state["factor"]`, where its state has that.
        """
        if "factor" in state:
            state["factor"] = factor
        if state.get("optimizer") is not None:
            state["optimizer"].scale(factor)

    def merge(self, updates: Sequence[Update], w: Tensor, state: State) -> Tensor:
        """One vector from the updates of one step, which may be overwritten: their mean by samples.

        w: the weights that it will be applied to.
        """
        return mean(updates)

    def report(self, state: State) -> dict[str, Any]:
        """Figures for the history's entry of the epoch that ends now, by name; they begin anew."""
        return {}


class ServerAlgorithm(Algorithm):
    """Workers exchange with a master that holds the centre weights `w`: an update up, a reply down.

    Class attributes: `reply_is_weights` lets the reply arrive in the memory that the model computes with.
    `reply_is_move`: replies say by how much the weights that their worker was sent last are to move, in the form of
    `reply_wire`, so that they are about those of the centre.
    `answers_before`: what senders are answered is the centre as it was before their step. `pull_first`: a worker
    asks for the centre's weights, takes them in by `receive`, and then sends its update, which is not answered.
    `recalls`: a worker still needs its update as it was when the answer to it comes.
    `pipelined`: a worker computes its next update while the one before is under way, so that each is a step later.
    `in_place`: workers have the centre's weights themselves, x is w, and move them; messages have no vector, and each
    keeps statistics of its own.
    `lockstep`: every worker takes part in every step, those without a batch too, since each keeps the
    centre's state. `backup_workers`: how many updates a synchronous step does not wait for.
    """

    pattern = Pattern.SERVER
    reply_is_weights = False
    reply_is_move = False
    answers_before = False
    pull_first = False
    recalls = False
    pipelined = False
    in_place = False
    lockstep = False
    backup_workers = 0

    @property
    def follows(self) -> bool:
        """Whether a worker computes at what the last reply said, whatever it had before."""
        return self.reply_is_weights and not self.pull_first

    @property
    def catches_up(self) -> bool:
        """Whether one who has waited for batches is answered with the centre as it is by then."""
        return not (self.pull_first or self.pipelined) and (self.reply_is_weights or self.reply_is_move)

    def reply_wire(self, layout: Layout) -> Codec[Any] | None:
        """How replies travel that are not the centre's weights: what `step` returns, or moves."""
        return None

    @abstractmethod
    def receive(self, x: Tensor, reply: Tensor, state: State) -> None:
        """Take in the master's reply, shape (n,); with `pull_first` before `send`."""

    # On a master between the workers and their head.

    def combine(self, updates: Sequence[Update]) -> Tensor:
        """One vector, shape (n,), that says to `merge` what these updates do together; they may be overwritten."""
        return mean(updates)

    # On the master.

    @abstractmethod
    def init_master(self, w: Tensor, place: Place) -> State:
        """State of the master."""

    def accepts(self, lineage: Lineage, state: State) -> bool:
        """Whether an update may be applied; who sent one that may not starts again from the centre's weights."""
        return True

    @abstractmethod
    def step(self, w: Tensor, merged: Tensor, lineages: Sequence[Lineage], state: State) -> Tensor:
        """Apply `merged` to `w` in place and return what the senders are answered, shape (n,)."""

    def answered(self, worker: int, w: Tensor, state: State) -> None:
        """`worker` has weights `w` from now on: the centre's, or what moves make of them."""


class CollectiveAlgorithm(Algorithm):
    """Workers have the same weights and reduce their updates among themselves; each applies the same step.

    `gathers`: every worker gets all updates and merges them by `merge`; otherwise they are averaged by samples
    on their way. `bucket_bytes`: where it is not 0, `send` returns the gradient as it is, so that parts of it, of
    about so many bytes, may be reduced while the backward pass still runs.
    """

    pattern = Pattern.COLLECTIVE
    synchronous = True
    gathers = False
    bucket_bytes = 0

    def begin(self, epoch: int, state: State) -> None:
        """The rounds from now on are of this epoch, from 0 and the same on all workers."""

    @abstractmethod
    def apply(self, x: Tensor, merged: Tensor, state: State) -> None:
        """Take in what has become of all workers' updates, shape (n,): afterwards x is the same on each of them."""

    def refused(self, x: Tensor, state: State) -> None:
        """The round's updates are dropped, since one was inf or nan: go back to the weights after the last `apply`."""


def mean(updates: Sequence[Update]) -> Tensor:
    """Their mean by samples, in the memory of the first."""
    merged, first = updates[0].vector, updates[0].lineage.samples
    if len(updates) > 1:
        for update in updates[1:]:
            merged.add_(update.vector, alpha=update.lineage.samples / first)
        merged.mul_(first / sum(update.lineage.samples for update in updates))
    return merged


def total(updates: Sequence[Update]) -> Tensor:
    """Their sum, in the memory of the first."""
    merged = updates[0].vector
    for update in updates[1:]:
        merged.add_(update.vector)
    return merged


@dataclass(frozen=True)
class Mode:
    """An entry of the table of modes.

    `defaults`: options that suit it better than those of the model, by name; those of its optimizer hold only where
    no other one is asked for. `instead`: what stands for an option of the optimizer in a mode without one, by its name.
    `clips`: whether its optimizer applies gradients, which can be clipped.
    """

    options: type[Options]
    build: Callable[[Any], Algorithm]
    needs_optimizer: bool
    defaults: Mapping[str, Any] = field(default_factory=dict)
    instead: Mapping[str, str] = field(default_factory=dict)
    clips: bool = True
