"""Nodes of a graph as they train: against loops written from the equations, over the virtual clock."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnlo import Algo, Data
from nnlo.comm.costs import Costs, Fault, FaultKind
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import OptionsError, TrainingError
from nnlo.topology.graphs import GraphOptions
from tests.jobs import Array, Batch, Rows, Run, labelled, same_bits, train_here

NODES, INPUTS = 5, 4
MODES: dict[str, dict[str, Any]] = {
    "dsgd": {"lr": 0.05, "graph": "wheel"},
    "dsgt": {"lr": 0.05, "graph": "one-peer-exponential"},
    "dinno": {"lr": 0.01, "optimizer": "adam", "rho": 0.1},
    "choco": {"lr": 0.05, "compress": "topk:ratio=0.5", "choco_gamma": 0.4},
}


class Own(Data):
    """Each node makes its own batches, `sizes` of them by its number: no two are alike."""

    shards_itself = True

    def __init__(self, batches: list[list[Batch]]) -> None:
        super().__init__(4)
        self.batches = batches

    def count_data(self) -> int:
        return sum(len(y) for _, y in self.batches[self.worker])

    def generate_data(self) -> Iterator[tuple[Array, Array]]:
        yield from self.batches[self.worker]


def batches(counts: list[int], seed: int = 2) -> list[list[Batch]]:
    """So many batches of 4 samples for each node, of a linear map that is another one on each."""
    rng = np.random.default_rng(seed)

    def some(target: Array) -> Batch:
        x = rng.normal(size=(4, INPUTS))
        return x, x @ target

    targets = rng.normal(size=(len(counts), INPUTS, 1))
    return [[some(target) for _ in range(count)] for count, target in zip(counts, targets, strict=True)]


def linear() -> nn.Module:
    torch.manual_seed(3)
    return nn.Linear(INPUTS, 1, bias=False, dtype=torch.float64)


def algo_of(mode: str, **more: Any) -> Algo:
    options = {**MODES[mode], **more}
    known = {"loss": "mse", "metrics": (), "fused": False, **options}
    return Algo(known.pop("optimizer", "sgd"), mode=mode, **known)


def classifies(mode: str) -> Algo:
    return algo_of(mode, loss="categorical_crossentropy", metrics=("acc",), graph="wheel")


def gradient(w: Tensor, batch: Batch) -> Tensor:
    """Of the mean square error of a batch at w, shape (INPUTS,)."""
    x, y = (torch.tensor(part) for part in batch)
    return 2 * x.T @ (x @ w - y[:, 0]) / len(y)


# What comes of it.


@pytest.mark.parametrize("counts", [[3, 3, 3, 3, 3], [1, 2, 3, 4, 5]])
def test_dsgd_is_a_loop_and_nodes_go_through_their_own_samples(counts: list[int]) -> None:
    """A node with few begins again while others go on; an epoch is over after as many samples as there are."""
    own, w0, eta = batches(counts), linear().state_dict()["weight"][0], 0.05
    run = train_here(VirtualWorld(1 + NODES), Own(own), algo_of("dsgd"), linear, epochs=4)
    mixing = GraphOptions(graph="wheel").mixings(NODES)[0].matrix
    x = torch.stack([w0] * NODES)
    rounds = -(-4 * sum(counts) // NODES)
    for k in range(rounds):
        x = torch.stack([row - eta * gradient(row, own[i][k % counts[i]]) for i, row in enumerate(x)])
        x = torch.tensor(mixing) @ x
    assert torch.allclose(run.state["weight"][0], x.mean(0), rtol=0, atol=1e-13)
    assert run.last["samples"] == 4 * NODES * rounds
    assert [entry["ranks"]["1"]["updates"] for entry in run.history["epochs"]] == [rounds // 4] * 4
    distances = (x - x.mean(0)).norm(dim=1)
    assert run.last["distances"] == pytest.approx(distances.tolist(), rel=1e-9)
    assert run.last["consensus"] == pytest.approx(float(distances.mean()), rel=1e-9)
    assert run.last["consensus_max"] == pytest.approx(float(distances.max()), rel=1e-9)


def test_dsgt_is_a_loop() -> None:
    own, w0, eta = batches([3] * NODES), linear().state_dict()["weight"][0], 0.05
    run = train_here(VirtualWorld(1 + NODES), Own(own), algo_of("dsgt"), linear, epochs=4)
    mixings = [torch.tensor(one.matrix) for one in GraphOptions(graph="one-peer-exponential").mixings(NODES)]
    x = torch.stack([w0] * NODES)
    y = g = torch.zeros_like(x)
    for k in range(12):
        now = torch.stack([gradient(row, own[i][k % 3]) for i, row in enumerate(x)])
        y, g = y + now - g, now
        x, y = mixings[k % 3] @ (x - eta * y), mixings[k % 3] @ y
    assert torch.allclose(run.state["weight"][0], x.mean(0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("mode", MODES)
def test_each_node_and_the_mean_are_validated(mode: str) -> None:
    """The mean of the nodes is what is left, and its figures are those of the run; those of the nodes stand beside."""
    x, y = labelled(320, 8, 4)
    val = Rows(x, y, 64)
    run = train_here(VirtualWorld(5), Rows(x, y, 16), classifies(mode), lambda: nn.Linear(8, 4), epochs=3, val=val)
    with torch.no_grad():
        answers = run.model(torch.tensor(x)).argmax(1)
    assert run.last["val_acc"] == pytest.approx(float((answers == torch.tensor(y)).double().mean()), abs=1e-6)
    assert list(run.last["nodes"]) == ["1", "2", "3", "4"]
    for place, node in enumerate(run.last["nodes"].values()):
        assert node.keys() == {"distance", "val_loss", "val_acc"}
        assert node["distance"] == run.last["distances"][place]
    assert len(run.history["validations"]) == 3
    assert run.history["validations"][-1]["nodes"] == run.last["nodes"]


def test_what_travels_is_counted() -> None:
    """Of 4 numbers in float64 a node sends one vector or two a round to each of its neighbours; topk sends less."""
    own = batches([2] * NODES)
    for mode, graph, nbytes in (("dsgd", "cycle", 64), ("dsgt", "cycle", 128), ("dsgd", "complete", 128)):
        run = train_here(VirtualWorld(1 + NODES), Own(own), algo_of(mode, graph=graph), linear)
        assert run.last["ranks"]["3"]["bytes_up"] == run.last["ranks"]["3"]["bytes_down"] == 2 * nbytes
    run = train_here(VirtualWorld(1 + NODES), Own(own), algo_of("choco"), linear)
    assert 0 < run.last["ranks"]["3"]["bytes_up"] < 2 * 64


# What goes wrong.


@pytest.mark.parametrize("mode", MODES)
def test_a_gradient_that_is_not_finite_is_left_out(mode: str) -> None:
    own = batches([3] * NODES)
    own[1][1] = own[1][1][0] * np.inf, own[1][1][1]
    run = train_here(VirtualWorld(1 + NODES), Own(own), algo_of(mode), linear, epochs=3)
    assert torch.isfinite(run.state["weight"]).all()
    assert run.last["ranks"]["2"]["refused"] >= 1
    assert all(run.last["ranks"][str(n)]["refused"] == 0 for n in (1, 3, 4, 5))


def test_weights_that_are_not_finite_end_the_job() -> None:
    with pytest.raises(TrainingError, match="inf or nan"):
        train_here(VirtualWorld(1 + NODES), Own(batches([3] * NODES)), algo_of("dsgd", lr=1e300), linear, epochs=50)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("step", [0, 3, 7])
def test_the_others_go_on_without_a_lost_node(mode: str, step: int) -> None:
    faults = [Fault(2, step, FaultKind.DIE)]
    world = VirtualWorld(1 + NODES, faults=faults, costs=Costs(notice=0.01), seed=4)
    graph = {"graph": "cycle"} if mode != "dsgt" else {}
    run = train_here(world, Own(batches([3] * NODES)), algo_of(mode, **graph), linear, epochs=6)
    assert run.history["outcome"] == "done"
    assert [lost["rank"] for lost in run.history["lost"]] == [2]
    assert torch.isfinite(run.state["weight"]).all()
    assert len(run.last["distances"]) == NODES - 1
    assert run.last["loss"] < run.history["epochs"][0]["loss"]


def test_a_graph_that_there_cannot_be_is_refused_before_anything_runs() -> None:
    with pytest.raises(OptionsError, match="--graph torus needs a rectangle of 3 by 3"):
        train_here(VirtualWorld(1 + NODES), Own(batches([1] * NODES)), algo_of("dsgd", graph="torus"), linear)


# Checkpoints.


@pytest.mark.parametrize("mode", MODES)
def test_training_goes_on_bit_for_bit(mode: str, tmp_path: Path) -> None:
    x, y = labelled(200, 8, 4)

    def run(epochs: int, **more: Any) -> Run:
        world, data, val = VirtualWorld(1 + NODES, seed=3), Rows(x, y, 16), Rows(x, y, 64)
        return train_here(world, data, classifies(mode), lambda: nn.Linear(8, 4), epochs=epochs, val=val, **more)

    whole = run(5)
    run(2, checkpoint=tmp_path, checkpoint_interval=1)
    rest = run(5, restore=tmp_path)
    assert same_bits(whole.state, rest.state)
    assert [entry["nodes"] for entry in whole.history["epochs"]] == [entry["nodes"] for entry in rest.history["epochs"]]


def test_with_other_nodes_all_begin_at_the_mean(tmp_path: Path) -> None:
    x, y = labelled(200, 8, 4)

    def run(nodes: int, epochs: int, **more: Any) -> Run:
        algo = Algo("sgd", mode="dinno", lr=0.02)
        return train_here(VirtualWorld(1 + nodes), Rows(x, y, 16), algo, lambda: nn.Linear(8, 4), epochs=epochs, **more)

    first = run(5, 3, checkpoint=tmp_path)
    second = run(3, 6, restore=tmp_path)
    assert second.history["outcome"] == "done"
    assert second.last["loss"] < first.last["loss"]
    assert len(second.last["distances"]) == 3
