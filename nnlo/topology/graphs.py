"""Graphs by name: which nodes exchange with one another, in each round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import networkx as nx

from nnlo.errors import OptionsError
from nnlo.options import Options, option
from nnlo.registry import Registry
from nnlo.topology.mixing import Mixing, hop, metropolis

#: Which graph, where nothing is said.
GRAPH = "cycle"
PROBABILITY, ATTEMPTS, SEED = 0.3, 100, 0


@dataclass(frozen=True, kw_only=True)
class GraphOptions(Options):
    """Graphs (--mode dsgd, dsgt, dinno, choco)."""

    graph: str = option(
        GRAPH, help="whom each worker exchanges with: the graph whose nodes they are", choices=lambda: GRAPHS
    )
    graph_p: float | None = option(
        None,
        help=f"of a random graph: the probability of each edge (default {PROBABILITY:g})",
        metavar="P",
        above=0,
        at_most=1,
    )
    graph_attempts: int | None = option(
        None,
        help=f"of a random graph: how often it is drawn again where it is not connected (default {ATTEMPTS})",
        metavar="N",
        at_least=0,
    )
    graph_seed: int | None = option(
        None, help=f"of a random graph: the seed that it is drawn by (default {SEED})", metavar="N", at_least=0
    )
    graph_file: Path | None = option(
        None, help="of --graph file: a line for each edge, two numbers of nodes from 0 on", metavar="EDGES.txt"
    )

    def check(self) -> None:
        super().check()
        for name in ("graph_p", "graph_attempts", "graph_seed"):
            self._check_read(name, "random")
        self._check_read("graph_file", "file")
        if self.graph == "file" and self.graph_file is None:
            raise OptionsError("--graph file needs --graph-file EDGES.txt: a line for each edge, such as 0 1")

    def _check_read(self, name: str, graph: str) -> None:
        if getattr(self, name) is not None and self.graph != graph:
            raise OptionsError(f"--{name.replace('_', '-')} has no effect with --graph {self.graph}: drop one of them")

    def mixings(self, nodes: int) -> tuple[Mixing, ...]:
        """Those of the first rounds, after which they come again. Raises OptionsError for nodes that it cannot have."""
        return tuple(GRAPHS[self.graph](nodes, self))


Make = Callable[[int, GraphOptions], Sequence[Mixing]]
GRAPHS: Registry[Make] = Registry("graph")


def fixed(make: Callable[[int, GraphOptions], nx.Graph]) -> Make:
    """One graph in all rounds, with Metropolis weights; a single node has no edge."""

    def mixings(nodes: int, options: GraphOptions) -> Sequence[Mixing]:
        return [metropolis(make(nodes, options) if nodes > 1 else nx.empty_graph(nodes))]

    return mixings


def wheel(nodes: int, options: GraphOptions) -> nx.Graph:
    """A hub, node 0, and a cycle of the others."""
    if nodes < 4:
        raise OptionsError(f"--graph wheel needs at least 4 nodes, not {nodes}: start more ranks, or choose cycle")
    return nx.wheel_graph(nodes)


def lattice(name: str, least: int) -> Callable[[int, GraphOptions], nx.Graph]:
    """Rows of nodes, as nearly square as they can be, with at least so many in each direction; a torus is closed."""

    def make(nodes: int, options: GraphOptions) -> nx.Graph:
        if not (sides := rectangle(nodes, least)):
            fitting = [size for size in range(nodes - 1, 0, -1) if rectangle(size, least)][:1]
            fitting += [
                next(size for size in range(max(nodes + 1, least**2), 4 * nodes + 40) if rectangle(size, least))
            ]
            raise OptionsError(
                f"--graph {name} needs a rectangle of {least} by {least} nodes or more, and {nodes} nodes make none: "
                f"take {' or '.join(map(str, fitting))} workers"
            )
        graph = nx.grid_2d_graph(*sides, periodic=least > 2)
        return nx.convert_node_labels_to_integers(graph, ordering="sorted")

    return make


def rectangle(nodes: int, least: int) -> tuple[int, int] | None:
    """The sides of the one that is most nearly square, the shorter one first."""
    for side in range(int(nodes**0.5), least - 1, -1):
        if nodes % side == 0:
            return side, nodes // side
    return None


def exponential(nodes: int, options: GraphOptions) -> nx.Graph:
    """Each node and those 1, 2, 4, ... further on, in a circle (Ying et al. 2021, arXiv 2110.13363)."""
    return nx.circulant_graph(nodes, list(hops(nodes)))


def one_peer_exponential(nodes: int, options: GraphOptions) -> list[Mixing]:
    """In turn the node 1, 2, 4, ... before each one: for 2^m nodes m rounds give the mean (Assran et al. 2019)."""
    return [hop(nodes, length) for length in hops(nodes)] or [hop(nodes, 0)]


def hops(nodes: int) -> Iterator[int]:
    """The powers of 2 below that number."""
    return (1 << power for power in range((nodes - 1).bit_length()))


def drawn(nodes: int, options: GraphOptions) -> nx.Graph:
    """An Erdos-Renyi graph, drawn until it is connected."""
    probability = PROBABILITY if options.graph_p is None else options.graph_p
    attempts = ATTEMPTS if options.graph_attempts is None else options.graph_attempts
    seed = options.graph_seed or SEED
    for attempt in range(1 + attempts):
        graph = nx.gnp_random_graph(nodes, probability, seed=seed + attempt)
        if nx.is_connected(graph):
            return graph
    raise OptionsError(
        f"--graph random: none of {1 + attempts} graphs of {nodes} nodes was connected: "
        f"raise --graph-p (now {probability:g}) or --graph-attempts"
    )


def read(nodes: int, options: GraphOptions) -> nx.Graph:
    """Of a file with a line for each edge; what follows a # is no part of it."""
    assert options.graph_file is not None
    flag = f"--graph-file {options.graph_file}"
    graph = nx.empty_graph(nodes)
    try:
        lines = options.graph_file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionsError(f"{flag}: cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if ends := line.partition("#")[0].replace(",", " ").split():
            graph.add_edge(*edge(ends, nodes, f"{flag}, line {number}"))
    if not nx.is_connected(graph):
        apart = min(nx.connected_components(graph), key=len)
        raise OptionsError(
            f"{flag}: no edge leads from nodes {', '.join(map(str, sorted(apart)))} to the others: add one"
        )
    return graph


def edge(ends: Sequence[str], nodes: int, where: str) -> tuple[int, int]:
    """Two different nodes. Raises OptionsError."""
    if len(ends) != 2 or not all(end.isdecimal() for end in ends):
        raise OptionsError(f"{where}: must be two numbers of nodes, such as 0 1, not {' '.join(ends)!r}")
    first, second = map(int, ends)
    if max(first, second) >= nodes:
        raise OptionsError(
            f"{where}: there is no node {max(first, second)}: {nodes} workers are nodes 0 to {nodes - 1}"
        )
    if first == second:
        raise OptionsError(f"{where}: an edge from node {first} to itself: drop the line")
    return first, second


GRAPHS.register("none", fixed(lambda nodes, options: nx.empty_graph(nodes)))
GRAPHS.register("cycle", fixed(lambda nodes, options: nx.cycle_graph(nodes)))
GRAPHS.register("complete", fixed(lambda nodes, options: nx.complete_graph(nodes)))
GRAPHS.register("wheel", fixed(wheel))
GRAPHS.register("star", fixed(lambda nodes, options: nx.star_graph(nodes - 1)))
GRAPHS.register("grid", fixed(lattice("grid", 2)))
GRAPHS.register("torus", fixed(lattice("torus", 3)))
GRAPHS.register("exponential", fixed(exponential))
GRAPHS.register("one-peer-exponential", one_peer_exponential)
GRAPHS.register("random", fixed(drawn))
GRAPHS.register("file", fixed(read))
