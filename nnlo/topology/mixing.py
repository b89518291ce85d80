"""Mixing weights: by how much a node takes over what each of its neighbours has.

Row i of the matrix W says what node i makes of a round's values: W_ii times its own and W_ij times those of each j that
it hears from. The rows and the columns of W sum to 1, so that mixing keeps the mean of all nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

import networkx as nx
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Mixing:
    """One round's: row i holds (j, W_ij) of node i itself and of all whom it hears from, in their order."""

    rows: tuple[tuple[tuple[int, float], ...], ...]

    @property
    def nodes(self) -> int:
        return len(self.rows)

    def heard_by(self, node: int) -> list[int]:
        """Whose values the node gets."""
        return [other for other, _ in self.rows[node] if other != node]

    def hearers(self, node: int) -> list[int]:
        """Who gets the node's values."""
        return [other for other, row in enumerate(self.rows) if other != node and any(one == node for one, _ in row)]

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """W, shape (nodes, nodes)."""
        matrix = np.zeros((self.nodes, self.nodes))
        for node, row in enumerate(self.rows):
            for other, weight in row:
                matrix[node, other] = weight
        return matrix

    @property
    def both_ways(self) -> bool:
        """Whether whoever hears a node is heard by it, with the same weight."""
        return bool((self.matrix == self.matrix.T).all())

    @property
    def gap(self) -> float:
        """1 - |lambda_2(W)|: the share of what nodes differ by that at least goes in a round; 1 for a single one."""
        return 1.0 - second_eigenvalue(self.matrix)


def second_eigenvalue(matrix: NDArray[np.float64]) -> float:
    """The second largest modulus of its eigenvalues, shape (n, n); 0 where there is no second one."""
    sizes = np.sort(np.abs(np.linalg.eigvals(matrix)))
    return float(sizes[-2]) if len(sizes) > 1 else 0.0


def metropolis(graph: nx.Graph) -> Mixing:
    """W_ij = 1 / (1 + max(deg_i, deg_j)) along edges, and on the diagonal what is left (Xiao and Boyd 2004).

    In fractions, so that on a complete graph all weights are the same.
    """
    rows = []
    for node in range(len(graph)):
        weights = {other: Fraction(1, 1 + max(graph.degree[node], graph.degree[other])) for other in graph[node]}
        weights[node] = 1 - sum(weights.values(), Fraction(0))
        rows.append(tuple((other, float(weight)) for other, weight in sorted(weights.items())))
    return Mixing(tuple(rows))


def hop(nodes: int, length: int) -> Mixing:
    """Each node takes the mean of itself and the node that lies so far before it, in a circle."""
    if length % nodes == 0:
        return Mixing(tuple(((node, 1.0),) for node in range(nodes)))
    pairs = (sorted((node, (node - length) % nodes)) for node in range(nodes))
    return Mixing(tuple(tuple((one, 0.5) for one in pair) for pair in pairs))
