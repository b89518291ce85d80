"""The maths of the modes on a graph against their equations in matrices, without a transport.

Node i minimises f_i(x) = a_i / 2 |x - c_i|^2. X holds the weights of all nodes, a row each, and W the mixing weights
of `nnlo.topology`, which tests/unit/test_graphs.py compares with their definition.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nnlo import Algo
from nnlo.algos import GossipAlgorithm, Place, Value
from nnlo.compress import CodecSpec
from nnlo.errors import OptionsError
from nnlo.flat import Layout

Matrix = NDArray[np.float64]
N = 4
X0 = np.array([3.0, -5.0, 1.0, 7.0]) / 8


def problem(nodes: int, seed: int = 1) -> tuple[Matrix, Matrix]:
    """a, shape (nodes, 1), and c, shape (nodes, N): small whole numbers."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 4, (nodes, 1)) * 1.0, rng.integers(-8, 9, (nodes, N)) * 1.0


def optimum(a: Matrix, c: Matrix) -> Matrix:
    """Where the sum of all f_i is least."""
    return (a * c).sum(0) / a.sum()


class Nodes:
    """Nodes of a mode as plain calls; what each sends reaches its neighbours as it is, or as a codec makes it."""

    def __init__(self, mode: str, nodes: int, lr: float = 2.0**-4, optimizer: str = "sgd", **options: Any) -> None:
        algo = Algo(optimizer, mode=mode, loss="mse", metrics=(), fused=False, lr=lr, **options)
        assert isinstance(algo.algorithm, GossipAlgorithm)
        self.algorithm = algo.algorithm
        self.mixings = self.algorithm.mixings(nodes)
        self.a, self.c = problem(nodes)
        self.layout = layout = Layout.of(nn.Linear(N, 1, bias=False, dtype=torch.float64))
        start = torch.tensor(X0)
        self.codec = self.algorithm.wire(layout)
        self.x = [torch.zeros_like(start) for _ in range(nodes)]
        self.state = []
        for node, x in enumerate(self.x):
            place = Place(
                1 + node, nodes, layout, optimizer=algo.optimizer, neighbours=len(self.mixings[0].heard_by(node))
            )
            update = torch.full((self.algorithm.vectors * N,), math.nan, dtype=torch.float64)
            self.state.append(self.algorithm.init(x, update, place))
            self.algorithm.start(x, start, self.state[-1])
        self.rounds = 0

    @property
    def weights(self) -> Matrix:
        return np.array([x.tolist() for x in self.x])

    @property
    def shown(self) -> Matrix:
        return np.array([self.algorithm.shown(*one).tolist() for one in zip(self.x, self.state, strict=True)])

    def kept(self, name: str) -> Matrix:
        return np.array([state[name].tolist() for state in self.state])

    def round(self, steps: int = 1, learns: bool = True) -> None:
        """Each node takes so many steps, if it `learns`; then all exchange."""
        for x, state, a, c in zip(self.x, self.state, self.a, self.c, strict=True):
            for _ in range(steps if learns else 0):
                self.algorithm.local(x, torch.tensor(a) * (x - torch.tensor(c)), 1, state)
        sent = [self.read(self.algorithm.send(*one).clone()) for one in zip(self.x, self.state, strict=True)]
        for node, row in enumerate(self.mixings[self.rounds % len(self.mixings)].rows):
            values = [Value(weight, sent[other]) for other, weight in row]
            own = [other for other, _ in row].index(node)
            self.algorithm.mix(self.x[node], values, own, self.state[node])
        self.rounds += 1

    def read(self, vector: Tensor) -> Tensor:
        if self.codec is not None:
            memory = torch.zeros(self.codec.nbytes, dtype=torch.uint8)
            self.codec.encode(vector, memory, self.codec.init(0, False))
            self.codec.decode(memory, vector)
        return vector.view(self.algorithm.vectors, N)


def whole(nodes: int) -> Matrix:
    return np.tile(X0, (nodes, 1))


# Mixing.


@pytest.mark.parametrize("mode", ["dsgd", "choco"])
def test_a_round_on_a_complete_graph_is_the_mean(mode: str) -> None:
    """Exactly, for 8 nodes; where one read what others have mixed already, later nodes would come to something else."""
    nodes = Nodes(mode, 8, graph="complete")
    different = np.arange(8)[:, None] + np.zeros((8, N))
    for x, value in zip(nodes.x, different, strict=True):
        x.copy_(torch.tensor(value))
    nodes.round(learns=False)
    assert (nodes.weights == 3.5).all()


@pytest.mark.parametrize(("size", "exact"), [(2, True), (8, True), (16, True), (6, False)])
def test_one_peer_graphs_give_the_mean_after_a_turn(size: int, exact: bool) -> None:
    """After log2 M rounds, where M is a power of 2."""
    nodes = Nodes("dsgd", size, graph="one-peer-exponential")
    for node, x in enumerate(nodes.x):
        x.fill_(float(node * node))
    assert len(nodes.mixings) == math.ceil(math.log2(size))
    for _ in nodes.mixings:
        nodes.round(learns=False)
    assert bool((nodes.weights == sum(k * k for k in range(size)) / size).all()) is exact


def test_a_node_alone_is_a_plain_loop() -> None:
    for mode in ("dsgd", "dsgt", "choco", "dinno"):
        nodes, x = Nodes(mode, 1), X0.copy()
        for _ in range(5):
            nodes.round()
            x = x - 2.0**-4 * nodes.a[0] * (x - nodes.c[0])
        assert nodes.weights[0] == pytest.approx(x, rel=1e-14)


# Decentralised SGD.

GRAPHS = [("cycle", 5), ("wheel", 6), ("star", 4), ("one-peer-exponential", 5)]


@pytest.mark.parametrize(("graph", "size"), GRAPHS)
@pytest.mark.parametrize("order", ["adapt-then-combine", "combine-then-adapt", "together"])
def test_dsgd_is_its_equation(graph: str, size: int, order: str) -> None:
    nodes = Nodes("dsgd", size, graph=graph, dsgd_order=order)
    a, c, eta, x = nodes.a, nodes.c, 2.0**-4, whole(size)
    for k in range(9):
        # One that combines first mixes what it had in the round before, and at first what all have alike.
        before = nodes.mixings[(k - 1) % len(nodes.mixings)].matrix
        w = nodes.mixings[k % len(nodes.mixings)].matrix
        nodes.round()
        if order == "adapt-then-combine":
            x = w @ (x - eta * a * (x - c))
        elif order == "combine-then-adapt":
            y = before @ x
            x = y - eta * a * (y - c)
        else:
            x = w @ x - eta * a * (x - c)
        np.testing.assert_allclose(nodes.shown, x, rtol=0, atol=1e-13)


def test_the_rate_falls_with_the_rounds() -> None:
    nodes, rate = Nodes("dsgd", 3, lr=0.25, dsgd_mu=0.5), 0.25
    for _ in range(4):
        assert nodes.state[0]["optimizer"].lr == pytest.approx(rate, rel=1e-15)
        nodes.round()
        rate *= 1 - 0.5 * rate
    nodes.algorithm.scale(0.5, nodes.state[0])
    assert nodes.state[0]["optimizer"].lr == pytest.approx(0.5 * rate, rel=1e-15)


def test_several_steps_before_an_exchange() -> None:
    nodes, x, w = Nodes("dsgd", 5, sync_every=3), whole(5), Nodes("dsgd", 5).mixings[0].matrix
    for _ in range(4):
        nodes.round(steps=3)
        for _ in range(3):
            x = x - 2.0**-4 * nodes.a * (x - nodes.c)
        x = w @ x
    np.testing.assert_allclose(nodes.weights, x, rtol=0, atol=1e-13)
    assert nodes.algorithm.batches(0) == 3


# Gradient tracking.


@pytest.mark.parametrize(("graph", "size"), GRAPHS)
@pytest.mark.parametrize("init_grads", [True, False])
def test_dsgt_is_its_equation(graph: str, size: int, init_grads: bool) -> None:
    nodes = Nodes("dsgt", size, graph=graph, init_grads=init_grads)
    a, c, eta = nodes.a, nodes.c, 2.0**-4
    x = whole(size)
    y = g = a * (x - c) if init_grads else np.zeros_like(x)
    for k in range(9):
        w = nodes.mixings[k % len(nodes.mixings)].matrix
        nodes.round()
        x = w @ (x - eta * y)
        np.testing.assert_allclose(nodes.weights, x, rtol=0, atol=1e-13)
        y, g = w @ y + a * (x - c) - g, a * (x - c)


def test_the_mean_of_y_is_the_mean_gradient() -> None:
    """Always: also of a node that has no batch in a round."""
    nodes = Nodes("dsgt", 6, graph="wheel")
    for k in range(12):
        nodes.round(learns=k % 3 < 2)
        np.testing.assert_allclose(nodes.kept("y").mean(0), nodes.kept("gradient").mean(0), rtol=0, atol=1e-13)


# Consensus ADMM.


@pytest.mark.parametrize("graph", ["cycle", "wheel"])
def test_dinno_is_its_equation(graph: str) -> None:
    size, eta, rho = 6, 2.0**-6, 0.5
    nodes = Nodes("dinno", size, lr=eta, graph=graph, primal_steps=3, rho=rho, rho_scale=1.25)
    degrees = (nodes.mixings[0].matrix > 0).sum(1) - 1
    around = (nodes.mixings[0].matrix > 0) - np.eye(size)
    x, p = whole(size), np.zeros((size, N))
    for _ in range(6):
        rho *= 1.25
        p = p + rho * (degrees[:, None] * x - around @ x)
        middles, theta = (degrees[:, None] * x + around @ x) / 2, x
        for _ in range(3):
            gradient = nodes.a * (theta - nodes.c) + p + 2 * rho * (degrees[:, None] * theta - middles)
            theta = theta - eta * gradient
        x = theta
        nodes.round(steps=3)
        np.testing.assert_allclose(nodes.weights, x, rtol=0, atol=1e-13)
    np.testing.assert_allclose(nodes.kept("p").sum(0), 0, atol=1e-12)


@pytest.mark.parametrize("persistent", [True, False])
def test_its_optimizer_begins_anew_or_goes_on(persistent: bool) -> None:
    """Adam's first step is the rate itself, whatever the gradient; the rate follows the schedule either way."""
    nodes = Nodes("dinno", 3, lr=2.0**-8, optimizer="adam", primal_steps=1, persistent_optimizer=persistent)
    for factor in (1.0, 0.5, 0.25):
        before = nodes.weights
        for state in nodes.state:
            nodes.algorithm.scale(factor, state)
        nodes.round()
        steps = np.abs(nodes.weights - before) / (factor * 2.0**-8)
        assert bool((np.abs(steps - 1) < 1e-5).all()) is (factor == 1.0 or not persistent)


def exactly(nodes: Nodes) -> None:
    """A round of consensus ADMM whose small problems are solved to the end."""
    for x, state, a, c in zip(nodes.x, nodes.state, nodes.a, nodes.c, strict=True):
        curved = a + 2 * state["rho"] * state["degree"]
        middles = state["degree"] * state["anchor"] + state["pull"]
        x.copy_((torch.tensor(a * c) - state["p"] + 2 * state["rho"] * middles) / torch.tensor(curved))
    nodes.round(learns=False)


@pytest.mark.parametrize("graph", ["cycle", "wheel"])
def test_nodes_with_unlike_data_come_to_the_optimum_of_their_sum(graph: str) -> None:
    """By gradient tracking and ADMM; decentralised SGD at a constant rate keeps away from it, by about that rate."""
    best = {}
    runs: dict[str, Callable[[Nodes], None]] = {"dsgt": Nodes.round, "dsgd": Nodes.round, "dinno": exactly}
    for mode, one_round in runs.items():
        nodes = Nodes(mode, 10, graph=graph, **({"rho": 0.5, "rho_scale": 1.0} if mode == "dinno" else {}))
        for _ in range(600):
            one_round(nodes)
        best[mode] = float(np.abs(nodes.weights - optimum(nodes.a, nodes.c)).max())
    assert best["dsgt"] < 1e-9
    assert best["dinno"] < 1e-9
    assert best["dsgd"] > 1e-2


# Compressed gossip.


@pytest.mark.parametrize("graph", ["cycle", "wheel", "star"])
def test_choco_without_a_codec_is_dsgd(graph: str) -> None:
    choco, dsgd = (Nodes(mode, 6, graph=graph) for mode in ("choco", "dsgd"))
    for _ in range(20):
        choco.round()
        dsgd.round()
        np.testing.assert_allclose(choco.weights, dsgd.weights, rtol=0, atol=1e-13)


@pytest.mark.parametrize("codec", ["topk:ratio=0.25", "sign"])
def test_choco_is_its_equation(codec: str) -> None:
    """With the codec's own bits for Q; what is left out of one exchange comes later, so that nodes agree in the end."""
    nodes = Nodes("choco", 5, lr=2.0**-6, compress=codec, choco_gamma=0.25)
    w, x, known = nodes.mixings[0].matrix, whole(5), whole(5)
    for _ in range(40):
        nodes.round()
        x = x - 2.0**-6 * nodes.a * (x - nodes.c)
        q = np.array([nodes.read(torch.tensor(row.copy()))[0].tolist() for row in x - known])
        known = known + q
        x = x + 0.25 * (w @ known - known)
        np.testing.assert_allclose(nodes.weights, x, rtol=0, atol=1e-12)
        np.testing.assert_allclose(nodes.kept("around"), w @ nodes.kept("known"), rtol=0, atol=1e-12)
    mean = nodes.weights.mean(0)
    for _ in range(600):
        nodes.round(learns=False)
    np.testing.assert_allclose(nodes.weights, np.tile(mean, (5, 1)), rtol=0, atol=1e-6)


# What there cannot be.


@pytest.mark.parametrize(
    ("mode", "options", "message"),
    [
        ("dinno", {"graph": "one-peer-exponential"}, "leads one way"),
        ("choco", {"graph": "one-peer-exponential"}, "changes from round to round"),
        ("choco", {"compress": "powersgd"}, "summed on their way"),
        ("choco", {"compress": "sign", "error_feedback": True}, "--error-feedback is not for --mode choco"),
        ("dsgd", {"graph": "ring"}, "--graph: unknown value 'ring': choose one of"),
    ],
)
def test_what_a_mode_cannot_have(mode: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        Nodes(mode, 5, **options)


@pytest.mark.parametrize("mode", ["dsgt", "dinno", "choco", "dsgd"])
def test_after_a_loss_what_was_kept_of_others_begins_anew(mode: str) -> None:
    """The weights stay as they are, and who is left comes to where it would have come without the others."""
    nodes, rest, fresh = Nodes(mode, 7), Nodes(mode, 6), Nodes(mode, 6)
    one_round = exactly if mode == "dinno" else Nodes.round
    for _ in range(30):
        one_round(nodes)
    rest.a, rest.c = fresh.a, fresh.c = nodes.a[:6], nodes.c[:6]
    for node in range(6):
        rest.x[node].copy_(nodes.x[node])
        place = Place(1 + node, 6, rest.layout, neighbours=2)
        rest.state[node] = nodes.state[node]
        rest.algorithm.rejoin(rest.x[node], place, rest.state[node])
        assert torch.equal(rest.x[node], nodes.x[node])
    for _ in range(800):
        one_round(rest)
        one_round(fresh)
    np.testing.assert_allclose(rest.weights, fresh.weights, rtol=0, atol=1e-7)


def test_every_codec_that_travels_serves_choco() -> None:
    from nnlo.compress import CODECS

    for name in CODECS:
        if not CodecSpec.of(name).reduces:  # type: ignore[union-attr]
            Nodes("choco", 3, compress=name, choco_gamma=0.1).round()


def test_metropolis_weights_are_networkx_degrees() -> None:
    """Of a wheel of 6: its hub has 5 neighbours, the others 3."""
    w, degrees = Nodes("dsgd", 6, graph="wheel").mixings[0].matrix, dict(nx.wheel_graph(6).degree)
    for i, j in nx.wheel_graph(6).edges:
        assert w[i, j] == w[j, i] == 1 / (1 + max(degrees[i], degrees[j]))
