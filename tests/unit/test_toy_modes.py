"""A new mode is one file and one registry line: two toys, one a pattern, train by the driver and as a library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from torch import Tensor, nn

from nnlo import Algo
from nnlo.algos import MODES, CollectiveAlgorithm, Lineage, Mode, Place, ServerAlgorithm
from nnlo.algos.base import State
from nnlo.comm.virtual import VirtualWorld
from nnlo.drivers import TrainingDriver
from nnlo.options import Options, option
from tests.jobs import Rows, labelled, train_here


@dataclass(frozen=True, kw_only=True)
class ToyOptions(Options):
    """A toy (--mode toy-server, toy-collective)."""

    toy_rate: float = option(0.1, help="how far a gradient goes", above=0)


class ToyServer(ServerAlgorithm):
    """The master adds what workers send, each in the unit of its own rate."""

    reply_is_weights = True
    gradient_is_update = True

    def __init__(self, options: ToyOptions) -> None:
        self.rate = options.toy_rate

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        return {"update": update}

    def local(self, x: Tensor, gradient: Tensor, samples: int, state: State) -> None:
        gradient.mul_(-self.rate)

    def send(self, x: Tensor, state: State) -> Tensor:
        update: Tensor = state["update"]
        return update

    def receive(self, x: Tensor, reply: Tensor, state: State) -> None:
        """The reply lies where the weights are."""

    def init_master(self, w: Tensor, place: Place) -> State:
        return {}

    def step(self, w: Tensor, merged: Tensor, lineages: Sequence[Lineage], state: State) -> Tensor:
        return w.add_(merged)


class ToyCollective(CollectiveAlgorithm):
    """Every worker takes the step of the mean gradient."""

    gradient_is_update = True

    def __init__(self, options: ToyOptions) -> None:
        self.rate = options.toy_rate

    def init(self, x: Tensor, update: Tensor, place: Place) -> State:
        return {"update": update}

    def local(self, x: Tensor, gradient: Tensor, samples: int, state: State) -> None:
        """The gradient is the update."""

    def send(self, x: Tensor, state: State) -> Tensor:
        update: Tensor = state["update"]
        return update

    def apply(self, x: Tensor, merged: Tensor, state: State) -> None:
        x.sub_(merged, alpha=self.rate)


TOYS = {"toy-server": ToyServer, "toy-collective": ToyCollective}
each_toy = pytest.mark.parametrize("toy", TOYS)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    for name, toy in TOYS.items():
        MODES.register(name, Mode(ToyOptions, toy, needs_optimizer=False))
    yield
    for name in TOYS:
        del MODES._entries[name]


@each_toy
def test_by_the_driver(toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        TrainingDriver.main(
            ["--model", "mlp", "--mode", toy, "--toy-rate", "0.2", "--epochs", "2", "--output", str(tmp_path)]
        )
    assert left.value.code == 0 and "2 epochs" in capsys.readouterr().out


@each_toy
def test_as_a_library(toy: str) -> None:
    algo = Algo(None, mode=toy, toy_rate=0.3)
    run = train_here(VirtualWorld(4), Rows(*labelled(200), 10), algo, lambda: nn.Linear(8, 4), epochs=4)
    assert run.losses[-1] < 0.7 * run.losses[0]
    assert [entry["lr"] for entry in run.history["epochs"]] == [0.3] * 4
