"""What algorithms on a graph have in common: each worker, a node, mixes what its neighbours have into what it has."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from nnlo.algos.base import Algorithm, Pattern, Place, State
from nnlo.blocks import blocks
from nnlo.errors import OptionsError
from nnlo.topology.graphs import GraphOptions
from nnlo.topology.mixing import Mixing


class Value(NamedTuple):
    """What a node sent in a round, of shape (vectors, n), as all read it, and its weight W_ij in the mixing."""

    weight: float
    vectors: Tensor


class GossipAlgorithm(Algorithm):
    """Each node has weights x of its own; a round is `sync_every` batches or less, then an exchange with neighbours.

    Class attributes: `vectors`: how many of shape (n,) a node sends in a round, which is what `send` returns in one
    piece, shape (vectors * n,). `both_ways`: neighbours have to hear each other. `one_graph`: in all rounds the same.
    """

    pattern = Pattern.GOSSIP
    synchronous = True
    vectors = 1
    both_ways = False
    one_graph = False

    def __init__(self, graph: GraphOptions, batches: int = 1) -> None:
        self.graph, self.sync_every = graph, batches
        self._mixings: dict[int, tuple[Mixing, ...]] = {}

    def check(self, workers: int, epochs: int) -> None:
        self.mixings(workers)

    def mixings(self, nodes: int) -> tuple[Mixing, ...]:
        """Those of the first rounds, which come again after them. Raises OptionsError for a graph that there cannot be,
        or that is none for this algorithm."""
        if nodes not in self._mixings:
            self._mixings[nodes] = self._checked(self.graph.mixings(nodes))
        return self._mixings[nodes]

    def _checked(self, mixings: tuple[Mixing, ...]) -> tuple[Mixing, ...]:
        name = self.graph.graph
        if self.one_graph and len(mixings) > 1:
            raise OptionsError(f"--graph {name} changes from round to round, and this --mode needs one: choose another")
        if self.both_ways and not all(mixing.both_ways for mixing in mixings):
            raise OptionsError(f"--graph {name} leads one way, and this --mode needs both: choose another")
        return mixings

    @abstractmethod
    def mix(self, x: Tensor, values: Sequence[Value], own: int, state: State) -> None:
        """End a round: take in what this node, at place `own`, and all it hears sent, in the order of the nodes."""

    def rejoin(self, x: Tensor, place: Place, state: State) -> None:
        """There are fewer nodes now, and other neighbours: what was kept of them begins anew; the weights stay."""

    def shown(self, x: Tensor, state: State) -> Tensor:
        """Between two rounds, the weights that are this node's model."""
        return x


def mixed(out: Tensor, values: Sequence[Value], own: int, row: int = 0) -> Tensor:
    """out = v_i + sum_j W_ij (v_j - v_i), where v_i is at place `own`, over vectors number `row`; `out`, shape (n,), is
    none of these.

    That is sum_j W_ij v_j, but equal vectors stay as they are to the last bit, round after round.
    """
    others = [value for place, value in enumerate(values) if place != own]
    vectors = [values[own].vectors[row], *(value.vectors[row] for value in others)]
    for target, mine, *parts in blocks(out, *vectors):
        target.copy_(mine)
        for part, value in zip(parts, others, strict=True):
            target.add_(part - mine, alpha=value.weight)
    return out
