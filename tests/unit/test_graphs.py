"""Graphs by name, their mixing weights, and what they are refused for."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pytest

from nnlo.errors import OptionsError
from nnlo.topology.graphs import GRAPHS, GraphOptions
from nnlo.topology.mixing import Mixing, hop, metropolis

NAMES = [name for name in GRAPHS if name not in ("file", "none")]
FITTING = {"wheel": 4, "grid": 4, "torus": 9}


def mixings(graph: str, nodes: int, **options: object) -> tuple[Mixing, ...]:
    return GraphOptions(graph=graph, **options).mixings(nodes)  # type: ignore[arg-type]


def edges(mixing: Mixing) -> set[tuple[int, int]]:
    return {(i, j) for i in range(mixing.nodes) for j in mixing.heard_by(i)}


def undirected(*pairs: tuple[int, int]) -> set[tuple[int, int]]:
    return {*pairs, *((j, i) for i, j in pairs)}


@pytest.mark.parametrize("graph", NAMES)
@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 9, 16, 36])
def test_mixing_keeps_the_mean_and_reaches_all(graph: str, nodes: int) -> None:
    if 1 < nodes < FITTING.get(graph, 0):
        return
    for mixing in mixings(graph, nodes):
        w = mixing.matrix
        assert w.min() >= 0
        np.testing.assert_allclose(w.sum(0), 1, atol=1e-15)
        np.testing.assert_allclose(w.sum(1), 1, atol=1e-15)
        for node in range(nodes):
            assert all(node in mixing.hearers(other) for other in mixing.heard_by(node))
            assert [other for other, _ in mixing.rows[node]] == sorted(other for other, _ in mixing.rows[node])
    turn = np.linalg.multi_dot([np.eye(nodes), np.eye(nodes), *(one.matrix for one in mixings(graph, nodes))])
    assert (np.linalg.matrix_power(turn, nodes) > 0).all()


def test_the_edges() -> None:
    assert edges(mixings("cycle", 4)[0]) == undirected((0, 1), (1, 2), (2, 3), (3, 0))
    assert edges(mixings("star", 4)[0]) == undirected((0, 1), (0, 2), (0, 3))
    assert edges(mixings("wheel", 5)[0]) == undirected(*[(0, k) for k in range(1, 5)], (1, 2), (2, 3), (3, 4), (4, 1))
    assert edges(mixings("complete", 3)[0]) == undirected((0, 1), (0, 2), (1, 2))
    assert edges(mixings("grid", 6)[0]) == undirected((0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5))
    torus = mixings("torus", 12)[0]
    assert all(len(torus.heard_by(node)) == 4 for node in range(12))
    assert edges(mixings("exponential", 8)[0]) == {
        (i, (i + sign * hops) % 8) for i in range(8) for hops in (1, 2, 4) for sign in (1, -1)
    }
    first, second, third = mixings("one-peer-exponential", 8)
    for mixing, hops in ((first, 1), (second, 2), (third, 4)):
        assert edges(mixing) == {(i, (i - hops) % 8) for i in range(8)}
        assert set(mixing.matrix.ravel()) == {0.0, 0.5}


@pytest.mark.parametrize(
    ("graph", "nodes", "second"), [("complete", 10, 0.0), ("wheel", 10, 0.783), ("cycle", 10, 0.873)]
)
def test_second_eigenvalues(graph: str, nodes: int, second: float) -> None:
    """Of the cycle: 1/3 + 2/3 cos(2 pi / 10); the others as computed from the definition by others."""
    assert 1 - mixings(graph, nodes)[0].gap == pytest.approx(second, abs=5e-4)


def test_weights_of_a_complete_graph_are_all_alike() -> None:
    """Also where 1 - 9 * 0.1 is not 0.1 in floating point."""
    assert set(mixings("complete", 10)[0].matrix.ravel()) == {0.1}


def test_metropolis_of_a_path() -> None:
    w = metropolis(nx.path_graph(3)).matrix
    np.testing.assert_allclose(w, [[2 / 3, 1 / 3, 0], [1 / 3, 1 / 3, 1 / 3], [0, 1 / 3, 2 / 3]])


def test_nobody_hears_anybody() -> None:
    assert (mixings("none", 3)[0].matrix == np.eye(3)).all()


def test_a_hop_around_the_circle_is_none() -> None:
    assert (hop(4, 4).matrix == np.eye(4)).all()


def test_random_graphs_follow_their_seed_and_are_connected() -> None:
    one, same, other = (mixings("random", 12, graph_p=0.3, graph_seed=seed)[0] for seed in (5, 5, 6))
    assert one == same != other
    for seed in range(20):
        graph = nx.Graph(edges(mixings("random", 9, graph_p=0.25, graph_seed=seed)[0]))
        assert len(graph) == 9 and nx.is_connected(graph)


def test_a_file_of_edges(tmp_path: Path) -> None:
    path = tmp_path / "edges.txt"
    path.write_text("# a path and a chord\n0 1\n1, 2\n\n2 3  # the last one\n0 2\n0 1\n")
    assert edges(mixings("file", 4, graph_file=path)[0]) == undirected((0, 1), (1, 2), (2, 3), (0, 2))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("0 1\n", "no edge leads from nodes 2 to the others: add one"),
        ("0 1\n1 2\n2 x\n", r"line 3: must be two numbers of nodes, such as 0 1, not '2 x'"),
        ("0 1 2\n", r"line 1: must be two numbers of nodes, such as 0 1, not '0 1 2'"),
        ("0 1\n1 3\n", "line 2: there is no node 3: 3 workers are nodes 0 to 2"),
        ("0 0\n", "line 1: an edge from node 0 to itself: drop the line"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "edges.txt"
    path.write_text(text)
    with pytest.raises(OptionsError, match=complaint):
        mixings("file", 3, graph_file=path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"--graph-file .*nowhere\.txt: cannot be read: .*No such file"):
        mixings("file", 3, graph_file=tmp_path / "nowhere.txt")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionsError, match="cannot be read"):
        mixings("file", 3, graph_file=tmp_path / "bytes")


@pytest.mark.parametrize(
    ("graph", "nodes", "complaint"),
    [
        ("wheel", 3, "--graph wheel needs at least 4 nodes, not 3: start more ranks, or choose cycle"),
        ("grid", 7, "7 nodes make none: take 6 or 8 workers"),
        ("torus", 10, "--graph torus needs a rectangle of 3 by 3 nodes or more, and 10 nodes make none: take 9 or 12"),
        ("torus", 2, "take 9 workers"),
    ],
)
def test_numbers_of_nodes_that_a_graph_cannot_have(graph: str, nodes: int, complaint: str) -> None:
    with pytest.raises(OptionsError, match=complaint):
        mixings(graph, nodes)


def test_a_random_graph_that_is_never_connected() -> None:
    with pytest.raises(
        OptionsError, match=r"none of 4 graphs of 30 nodes was connected: raise --graph-p \(now 0.001\)"
    ):
        mixings("random", 30, graph_p=0.001, graph_attempts=3)


@pytest.mark.parametrize("option", ["graph_p", "graph_attempts", "graph_seed"])
def test_options_of_other_graphs(option: str) -> None:
    with pytest.raises(OptionsError, match=f"--{option.replace('_', '-')} has no effect with --graph wheel: drop one"):
        GraphOptions(graph="wheel", **{option: 1})


def test_file_and_its_name_belong_together() -> None:
    with pytest.raises(OptionsError, match="--graph-file has no effect with --graph cycle"):
        GraphOptions(graph_file=Path("edges.txt"))
    with pytest.raises(OptionsError, match="--graph file needs --graph-file"):
        GraphOptions(graph="file")
