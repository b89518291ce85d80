"""Elastic averaging SGD: workers train by themselves, each on an elastic band to a centre.

Zhang, Choromanska, LeCun 2015 (arXiv 1412.6651), algorithms 1 and 2. With M workers of weights x_i, centre w and
alpha = beta / M, an exchange is

    e_i = alpha (x_i - w);  w += e_i;  x_i -= e_i

or w += sum e_i when synchronous, every e_i from the same w. It goes with every tau-th step of a worker's own
optimizer: after it (order "after"), or so that the step's gradient is still taken where the worker was before (order
"before", the paper's): x_i <- x_i - eta g(x_i) - e_i. With momentum delta that step is EAMSGD's, see `look_ahead`.

A worker sends x_i and is answered w as it was before, so that both ends take the same e_i in one round trip, each in
one pass: w + alpha (x_i - w) and x_i + alpha (w - x_i), whose last bits round by themselves. With a codec it asks for w
first and sends e_i; both take what the codec made of it, so that w + sum x_i is kept either way.
What a codec leaves out stays in x_i - w until the next exchange: error feedback would count it twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nnlo.algos.base import Lineage, Place, ServerAlgorithm, State, Update, total
from nnlo.algos.easgd_options import EasgdOptions
from nnlo.algos.look_ahead import LookAheadSGD
from nnlo.logs import LOG
from nnlo.optim import FlatOptimizer


class Easgd(ServerAlgorithm):
    """The steps of the module's docstring. The memory that is sent holds the weights that are exchanged."""

    rate_flag = "--elastic-lr"
    fixed = frozenset(("alpha",))

    def __init__(self, options: EasgdOptions) -> None:
        self.options, self.rate = options, options.worker_rate
        if options.worker_optimizer != "sgd":
            self.rate_flag = "--worker-optimizer-params lr=..."
        self.synchronous, self.sync_every = options.synchronous, options.sync_every
        self.codec = options.codec
        self.pull_first = self.codec is not None
        self.hears_sent = self.pull_first
        self.answers_before = not self.pull_first
        self.sends_x = self.answers_before and options.elastic_order == "after"
        self.recalls = self.answers_before and not self.sends_x

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        alpha = self.options.alpha(place.workers)
        return {"exchanged": update, "alpha": alpha, "optimizer": self._build_optimizer(x), "factor": 1.0}

    def _build_optimizer(self, x: Tensor) -> FlatOptimizer | LookAheadSGD:
        if not self.options.elastic_momentum:
            return self.options.build_worker_optimizer(x)
        decay = self.options.worker_spec.settings.get("weight_decay", 0.0)
        return LookAheadSGD(x, self.rate, self.options.elastic_momentum, decay)

    def start(self, x: Tensor, weights: Tensor, state: State) -> None:
        """The optimizer begins anew as well: an update that was refused may have put inf or nan into it."""
        super().start(x, weights, state)
        state["optimizer"] = self._build_optimizer(x)
        self.scale(state["factor"], state)

    def probe(self, x: Tensor, state: State) -> None:
        self._note(x, state, "before")
        if isinstance(state["optimizer"], LookAheadSGD):
            state["optimizer"].probe(x)

    def local(self, x: Tensor, gradient: Tensor, samples: int, state: State) -> None:
        state["optimizer"].step(x, gradient)

    def _note(self, x: Tensor, state: State, order: str) -> None:
        """Keep the weights that are exchanged, where this is the order to do it in."""
        if order == self.options.elastic_order:
            state["exchanged"].copy_(x)

    def send(self, x: Tensor, state: State) -> Tensor:
        if not self.pull_first:
            self._note(x, state, "after")
        exchanged: Tensor = state["exchanged"]
        return exchanged

    def receive(self, x: Tensor, reply: Tensor, state: State) -> None:
        if self.sends_x:
            x.lerp_(reply, state["alpha"])
            return
        if self.pull_first:
            self._note(x, state, "after")
        stretch(state["exchanged"], reply, state["alpha"])
        if not self.pull_first:
            x.sub_(state["exchanged"])

    def sent(self, x: Tensor, left: Tensor, state: State) -> None:
        x.sub_(left)

    def combine(self, updates: Sequence[Update]) -> Tensor:
        return total(updates)

    def init_master(self, w: Tensor, place: Place) -> State:
        if warning := self.options.instability(place.workers):
            LOG.warning("%s", warning)
        return {"alpha": self.options.alpha(place.workers)}

    def merge(self, updates: Sequence[Update], w: Tensor, state: State) -> Tensor:
        """The sum of all e; of one worker alone its weights, where those were sent."""
        if self.pull_first or (len(updates) == 1 and updates[0].workers == 1):
            return total(updates)
        for update in updates:
            stretch(update.vector, w, state["alpha"], update.workers)
        return total(updates)

    def step(self, w: Tensor, merged: Tensor, lineages: Sequence[Lineage], state: State) -> Tensor:
        if self.pull_first or len(lineages) > 1:
            return w.add_(merged)
        return w.lerp_(merged, state["alpha"])


def stretch(x: Tensor, w: Tensor, alpha: float, workers: int = 1) -> None:
    """x <- alpha (x - w). x may be the sum of so many workers' weights."""
    x.sub_(w, alpha=workers).mul_(alpha)
