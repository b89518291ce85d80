"""A head of masters trains as one master alone does: synchronously to the last bit, on dyadic data.

Features are small integers, weights and rates powers of two, and shares of batches too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nnlo import Algo, Data
from nnlo.algos import MODES
from nnlo.algos.easgd_options import EasgdOptions
from nnlo.comm.costs import Costs, Fault, FaultKind, Host
from nnlo.comm.messages import Header, Kind
from nnlo.comm.virtual import VirtualWorld
from nnlo.roles.centre import Ring
from nnlo.roles.relay import Relay
from nnlo.topology import Topology
from tests.golden.test_synchronous import LR, integers, linear
from tests.jobs import Batch, Batches, Rows, Run, cut, labelled, same_bits, train_here

SYNCHRONOUS: list[tuple[str, dict[str, Any]]] = [
    ("downpour", {"synchronous": True}),
    ("downpour", {"synchronous": True, "sync_every": 2, "local_lr": 2.0**-6}),
    ("downpour", {"synchronous": True, "compress": "fp16", "error_feedback": True}),
    ("downpour", {"synchronous": True, "compress": "topk:ratio=0.5"}),
    ("easgd", {"synchronous": True, "elastic_force": 0.25, "elastic_lr": LR}),
    ("easgd", {"synchronous": True, "elastic_force": 0.25, "elastic_lr": LR, "compress": "fp16"}),
    ("easgd", {"mode_options": EasgdOptions(synchronous=True, elastic_force=0.5, elastic_lr=LR)}),
    ("sign", {}),
    ("sign", {"zero": "random"}),
    ("vote", {"num_bits": 3}),
]
ASYNCHRONOUS: list[tuple[str, dict[str, Any]]] = [
    ("downpour", {}),
    ("downpour", {"sync_every": 2, "compress": "fp16"}),
    ("easgd", {"elastic_force": 0.25, "elastic_lr": LR}),
    ("gem", {"gem_lr": LR}),
    ("gem", {"gem_lr": LR, "sync_every": 2, "gem_variant": "code"}),
    ("downpour", {"staleness": "inverse", "max_staleness": 2}),
    ("downpour", {"delay_compensation": 0.25}),
    ("downpour", {"compress": "qsgd"}),
]
SHAPES = [(3, 2, 1), (4, 1, 1), (2, 4, 1), (3, 2, 2)]
"""Masters with their head, workers of each, ranks of a worker."""


def algo_of(mode: str, options: dict[str, Any]) -> Algo:
    settings = {"lr": LR, "fused": False} if MODES[mode].needs_optimizer else {}
    return Algo("sgd" if settings else None, mode=mode, loss="mse", **settings, **options)


def trained(shape: Sequence[int], data: Data, algo: Algo, **options: Any) -> Run:
    """On the virtual clock, which is kept by `costs` and struck by `faults`."""
    masters, each, ranks = shape
    size = masters + max(1, masters - 1) * each * ranks
    world = VirtualWorld(size, costs=options.pop("costs", None), faults=options.pop("faults", ()))
    make = options.pop("make", linear)
    return train_here(world, data, algo, make, num_masters=masters, num_processes=ranks, **options)


def by_worker(entry: dict[str, Any], shape: Sequence[int], names: Sequence[str]) -> list[list[Any]]:
    """Figures of the workers in the order of their numbers, whatever their ranks."""
    masters, each, ranks = shape
    topology = Topology.of(masters + max(1, masters - 1) * each * ranks, masters, ranks)
    return [[entry["ranks"][str(lead)][name] for name in names] for lead in topology.leads]


def check_as_flat(tree: Run, flat: Run, shape: Sequence[int]) -> None:
    """Weights, and every figure but the bytes."""
    assert same_bits(tree.state, flat.state)
    assert not same_bits(flat.state, linear().state_dict())
    assert tree.delays == flat.delays
    flat_shape = (1, max(1, shape[0] - 1) * shape[1], 1)
    for mine, theirs in zip(tree.history["epochs"], flat.history["epochs"], strict=True):
        for name in ("samples", "updates", "refused", "staleness", "loss"):
            assert mine[name] == theirs[name], name
        names = ("samples", "updates", "refused", "loss")
        assert by_worker(mine, shape, names) == by_worker(theirs, flat_shape, names)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("mode", "options"), SYNCHRONOUS)
def test_synchronously_a_tree_is_one_master(mode: str, options: dict[str, Any], shape: tuple[int, ...]) -> None:
    workers = max(1, shape[0] - 1) * shape[1]
    steps = 3 if workers == 4 else 4
    x, y = integers(4 * workers * steps)
    data = Batches(cut(x, y, [4] * (workers * steps)))
    tree, flat = (trained(one, data, algo_of(mode, options)) for one in (shape, (1, workers, 1)))
    check_as_flat(tree, flat, shape)


@pytest.mark.parametrize(("mode", "options"), [SYNCHRONOUS[0], SYNCHRONOUS[4], SYNCHRONOUS[7], *ASYNCHRONOUS[:4]])
def test_nothing_is_left_to_be_received_or_answered(
    mode: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rings: list[Ring] = []
    begin = Ring.__init__
    monkeypatch.setattr(Ring, "__init__", lambda ring, make: (rings.append(ring), begin(ring, make))[-1])
    world, (x, y) = VirtualWorld(7), integers(64)
    train_here(world, Batches(cut(x, y, [4] * 16)), algo_of(mode, options), linear, num_masters=3)
    assert not any(channel._posted for channel in world.endpoints.values())
    assert rings and all(pinned.owed == 0 for ring in rings for pinned in ring._spare)


def test_workers_without_a_batch_are_waited_for_no_more() -> None:
    """Two of four have one batch more than the others, and they are of unlike speeds."""
    x, y = integers(40)
    costs = Costs(compute=lambda peer, samples: 1e-3 * samples * (1 + peer % 3))
    data = Batches(cut(x, y, [4] * 10))
    for mode, options in (("downpour", {"synchronous": True}), ("sign", {})):
        tree, flat = (
            trained(one, data, algo_of(mode, options), costs=costs, epochs=2) for one in ((3, 2, 1), (1, 4, 1))
        )
        check_as_flat(tree, flat, (3, 2, 1))


@pytest.mark.parametrize(("mode", "options"), SYNCHRONOUS)
def test_synchronously_sums_do_not_depend_on_who_is_quick(mode: str, options: dict[str, Any]) -> None:
    """At an epoch's end the head may owe unlike answers to workers behind one master: one is told far ahead of another.

    The data are not dyadic, so that another order of a sum shows.
    """
    x, y = labelled(105)
    costs = Costs(compute=1e-6, handling=lambda peer, message: 0.0 if peer else 0.01)
    quick, slow = (
        trained((3, 2, 1), Rows(x, y, 10), algo(mode, options), costs=one, make=lambda: nn.Linear(8, 4), epochs=2)
        for one in (None, costs)
    )
    assert same_bits(quick.state, slow.state)


def test_ranges_of_files_are_dealt_through_masters() -> None:
    x, y = integers(64)
    algo = algo_of("downpour", {"synchronous": True})
    tree, flat = (trained(one, Rows(x, y, 4), algo, epochs=1) for one in ((3, 2, 1), (1, 4, 1)))
    check_as_flat(tree, flat, (3, 2, 1))


def slow_above(most: int) -> Callable[[int, int], float]:
    """Ranks above `most` take 2.6 times as long."""
    return lambda peer, samples: 1e-3 * samples * (2.6 if peer > most else 1.0)


@pytest.mark.parametrize(("mode", "options"), [*ASYNCHRONOUS, ("downpour", {"synchronous": True, "backup_workers": 1})])
def test_a_master_of_one_worker_passes_on(mode: str, options: dict[str, Any]) -> None:
    """Then the order of updates is that of the flat layout, asynchronous ones too; the last worker is slower."""
    x, y = integers(48)
    tree, flat = (
        trained(shape, Batches(cut(x, y, [4] * 12)), algo_of(mode, options), costs=Costs(compute=slow_above(most)))
        for shape, most in (((4, 1, 1), 4), ((1, 3, 1), 2))
    )
    check_as_flat(tree, flat, (4, 1, 1))


@pytest.mark.parametrize("shape", [(3, 2, 1), (3, 3, 1), (3, 2, 2)])
@pytest.mark.parametrize(("mode", "options"), ASYNCHRONOUS)
def test_asynchronously_every_update_reaches_the_head(
    mode: str, options: dict[str, Any], shape: tuple[int, ...]
) -> None:
    x, y = labelled(205)
    slow = Costs(latency=5e-3, bandwidth=1e5)  # so that several updates wait for the line to be free
    run = trained(shape, Rows(x, y, 5), algo(mode, options), costs=slow, make=lambda: nn.Linear(8, 4), epochs=2)
    assert run.last["samples"] == 2 * 205
    counts = [len(entry["staleness"]["histogram"]) for entry in run.history["epochs"]]
    assert min(counts) > 1
    updates = sum(sum(entry["staleness"]["histogram"]) for entry in run.history["epochs"])
    assert updates == sum(rank["updates"] for entry in run.history["epochs"] for rank in entry["ranks"].values())
    assert math.isfinite(run.last["loss"]) and run.last["loss"] < 1.6
    workers = {str(lead) for lead in Topology.of(shape[0] + 2 * shape[1] * shape[2], shape[0], shape[2]).leads}
    assert {rank for entry in run.history["epochs"] for rank in entry["ranks"]} == workers


def algo(mode: str, options: dict[str, Any]) -> Algo:
    settings = {"lr": 0.05} if MODES[mode].needs_optimizer else {}
    return Algo("sgd" if settings else None, mode=mode, **settings, **options)


def test_updates_that_wait_together_become_one_step() -> None:
    """Four workers of one master start alike: while their first update travels, three others come."""
    x, y = integers(32)
    costs = Costs(compute=1e-3, latency=1e-5, bandwidth=1e5)
    run = trained((2, 4, 1), Batches(cut(x, y, [4] * 8)), algo_of("downpour", {}), costs=costs)
    histogram = run.last["staleness"]["histogram"]
    assert run.last["updates"] < sum(histogram) == 8
    alone = trained((1, 4, 1), Batches(cut(x, y, [4] * 8)), algo_of("downpour", {}), costs=costs)
    assert run.last["bytes_up"] < alone.last["bytes_up"] + 8 * 4 * 72


def test_updates_that_a_busy_head_has_no_room_for_become_one_step() -> None:
    """Messages travel at once, and the head takes twice as long for one as a worker for a batch."""
    x, y = integers(8 * 8 * 4)
    costs = Costs(compute=1e-3, handling=lambda peer, message: 0.0 if peer else 4e-3, latency=1e-5, bandwidth=1e12)
    run = trained((2, 8, 1), Batches(cut(x, y, [4] * 64)), algo_of("downpour", {}), costs=costs)
    assert sum(run.last["staleness"]["histogram"]) == 64 and run.last["updates"] <= 32


def test_the_bytes_of_the_heads_link_are_counted() -> None:
    """One message of two workers a step, of the size of its arena: two rows of a header and two sums more or less.

    Before the first step and after the last every worker sends a word alone, or a master two rows of words.
    """
    x, y = integers(32)
    algo = algo_of("downpour", {"synchronous": True})
    one, two = (trained(shape, Batches(cut(x, y, [4] * 8)), algo) for shape in ((1, 4, 1), (3, 2, 1)))
    assert one.last["updates"] == two.last["updates"] == 2
    vector = 128  # ten parameters in float64, in lines of 64 bytes
    assert one.last["bytes_up"] == 2 * 4 * (64 + 64 + vector) + 2 * 4 * 64
    assert two.last["bytes_up"] == 2 * 2 * (64 + 192 + vector) + 2 * 2 * (64 + 192)


def told(kind: Kind, version: int, nbytes: int) -> Header:
    return Header(kind, version=version, nbytes=nbytes)


@pytest.mark.parametrize(
    ("synchronous", "backups", "chosen"), [(False, 0, [3, 4]), (True, 2, [3, 4]), (True, 0, [2, 3, 4])]
)
def test_a_message_tells_of_one_version_where_that_matters(synchronous: bool, backups: int, chosen: list[int]) -> None:
    """What came first decides; the order is that of the workers."""
    relay = Relay.__new__(Relay)
    relay.algorithm = SimpleNamespace(synchronous=synchronous, backup_workers=backups)  # type: ignore[assignment]
    relay.workers = [2, 3, 4]
    relay.held = {4: told(Kind.HELLO, 0, 64), 3: told(Kind.UPDATE, 5, 256), 2: told(Kind.UPDATE, 4, 256)}
    assert list(relay.chosen()) == chosen


class Uneven(Data):
    """Worker i has a generator of its own, with 3 + 4 i batches; each second one holds a nan."""

    shards_itself = True
    spoiled = False

    def __init__(self) -> None:
        super().__init__(4)
        self.x, self.y = integers(64)

    def generate_data(self) -> Iterator[Batch]:
        for k in range(3 + 4 * self.worker):
            x = self.x[4 * (k % 16) : 4 * (k % 16) + 4].copy()
            if self.spoiled and k % 2:
                x[0, 0] = np.nan
            yield x, self.y[4 * (k % 16) : 4 * (k % 16) + 4]


class Spoiled(Uneven):
    spoiled = True


SOME = [*SYNCHRONOUS[:2], *SYNCHRONOUS[4:6], *SYNCHRONOUS[7:9], *ASYNCHRONOUS]


@pytest.mark.parametrize(("mode", "options"), SOME)
def test_uneven_generators_never_hang(mode: str, options: dict[str, Any]) -> None:
    run = trained((3, 2, 1), Uneven(), algo_of(mode, options), epochs=2)
    assert run.last["samples"] == 2 * 4 * sum(3 + 4 * worker for worker in range(4))


@pytest.mark.parametrize(("mode", "options"), SOME)
def test_updates_that_are_not_finite_are_refused_one_by_one(mode: str, options: dict[str, Any]) -> None:
    run = trained((3, 2, 1), Spoiled(), algo_of(mode, options), epochs=1, max_bad_updates=1000)
    flat = trained((1, 4, 1), Spoiled(), algo_of(mode, options), epochs=1, max_bad_updates=1000)
    assert run.last["samples"] == flat.last["samples"]
    assert run.last["refused"] > 0 and all(bool(torch.isfinite(value).all()) for value in run.state.values())
    if run.history["arguments"].get("synchronous"):
        check_as_flat(run, flat, (3, 2, 1))


def far_away(workers: int) -> VirtualWorld:
    """A head on one host, a master and its workers on another: a message takes as long as several batches."""
    ranks = tuple(range(1, workers + 2))
    costs = Costs(compute=1e-5, bandwidth=1e6)
    return VirtualWorld(workers + 2, hosts=[Host((0,)), Host(ranks, len(ranks))], costs=costs)


@pytest.mark.parametrize("spoiled", [2, 3])
@pytest.mark.parametrize(("mode", "options"), SOME)
def test_nobody_waits_behind_who_has_been_refused(mode: str, options: dict[str, Any], spoiled: int) -> None:
    """That one gets an answer of its own, so that its next update comes apart from its neighbour's."""
    x, y = integers(64)
    batches = [(part.copy(), labels) for part, labels in cut(x, y, [4] * 16)]
    batches[spoiled][0][0, 0] = np.nan
    run = train_here(far_away(2), Batches(batches), algo_of(mode, options), linear, num_masters=2, epochs=2)
    assert (run.last["samples"], run.last["refused"]) == (128, 1)
    epochs = run.history["epochs"]
    taken = sum(one["samples"] for entry in epochs for one in entry["ranks"].values())
    assert taken + sum(entry["refused_samples"] + entry["late_samples"] for entry in epochs) == 128


@pytest.mark.parametrize(("mode", "options"), [SYNCHRONOUS[0], SYNCHRONOUS[4], SYNCHRONOUS[7], ASYNCHRONOUS[0]])
def test_bytes_do_not_depend_on_whose_updates_are_refused(mode: str, options: dict[str, Any]) -> None:
    """Worker 1 of two has batches that hold nan, or the other has: what goes up is as much."""
    x, y = integers(64)
    sent = []
    for spoiled in (0, 1):
        batches = [(part.copy(), labels) for part, labels in cut(x, y, [4] * 16)]
        for part, _ in batches[spoiled::2]:
            part[0, 0] = np.nan
        run = trained((2, 2, 1), Batches(batches), algo_of(mode, options), epochs=1, max_bad_updates=100)
        assert run.last["refused"] == 8
        sent.append(run.last["bytes_up"])
    assert sent[0] == sent[1] > 8 * 10 * 8


def test_combined_updates_take_the_centre_as_far() -> None:
    """Eight workers of one master on a slow line: far fewer steps, and the same progress."""
    x, y = labelled(400)
    tree, flat = (
        train_here(
            VirtualWorld(8 + masters, costs=Costs(compute=1e-5, bandwidth=1e5)), Rows(x, y, 5), Algo("sgd", lr=0.02),
            lambda: nn.Linear(8, 4), num_masters=masters, epochs=5,
        )
        for masters in (2, 1)
    )  # fmt: skip
    steps = [sum(entry["updates"] for entry in run.history["epochs"]) for run in (tree, flat)]
    assert steps[0] < 0.5 * steps[1]
    assert abs(tree.last["loss"] - flat.last["loss"]) < 0.05 < flat.history["epochs"][0]["loss"] - flat.last["loss"]


@pytest.mark.parametrize("shape", [(1, 4, 1), (2, 4, 1)])
def test_every_epoch_has_its_entry_though_a_step_may_end_two(shape: tuple[int, int, int]) -> None:
    x, y = integers(8)
    run = trained(shape, Rows(x, y, 1), algo_of("downpour", {"sync_every": 4}), epochs=6)
    assert [entry["epoch"] for entry in run.history["epochs"]] == [1, 2, 3, 4, 5, 6]
    assert run.last["samples"] == 48


@pytest.mark.parametrize(("mode", "options"), [SYNCHRONOUS[4], SYNCHRONOUS[7], ASYNCHRONOUS[2]])
def test_nothing_is_owed_to_a_worker_that_was_lost(
    mode: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rings: list[Ring] = []
    begin = Ring.__init__
    monkeypatch.setattr(Ring, "__init__", lambda ring, make: (rings.append(ring), begin(ring, make))[-1])
    x, y = integers(160)
    fault = Fault(peer=1, step=2, kind=FaultKind.DIE)
    run = trained((1, 3, 1), Rows(x, y, 4), algo_of(mode, options), faults=[fault], epochs=2)
    assert run.last["samples"] == 320
    assert rings and all(pinned.owed == 0 for ring in rings for pinned in ring._spare)


@pytest.mark.parametrize(("mode", "options"), [SYNCHRONOUS[0], ASYNCHRONOUS[0], ASYNCHRONOUS[3]])
def test_others_take_over_from_a_worker_that_is_lost(mode: str, options: dict[str, Any]) -> None:
    x, y = integers(160)
    fault = Fault(peer=3, step=2, kind=FaultKind.DIE)
    run = trained((3, 2, 1), Rows(x, y, 4), algo_of(mode, options), faults=[fault], epochs=2)
    assert run.last["samples"] == 320
    assert "3" not in run.last["ranks"] and run.history["outcome"] == "done"


@pytest.mark.parametrize(("mode", "options"), [SYNCHRONOUS[0], SYNCHRONOUS[7], ASYNCHRONOUS[0], ASYNCHRONOUS[3]])
def test_a_stop_reaches_all(mode: str, options: dict[str, Any]) -> None:
    x, y = labelled(200)
    run = trained(
        (3, 2, 2), Rows(x, y, 5), algo(mode, options), make=lambda: nn.Linear(8, 4), epochs=50, val=Rows(x, y, 50),
        target_metric="val_acc,>,0.1", worker_accuracy=True,
    )  # fmt: skip
    assert "val_acc" in run.history["stop_reason"] and len(run.history["epochs"]) < 50
    assert set(run.history["workers"]) == {"2", "4", "7", "9"}


def normalised() -> nn.Module:
    module = nn.Sequential(nn.BatchNorm1d(4, dtype=torch.float64), nn.Linear(4, 2, dtype=torch.float64))
    module[1].load_state_dict(linear().state_dict())
    return module


@pytest.mark.parametrize("synchronous", [True, False])
def test_buffers_go_up_and_down(synchronous: bool) -> None:
    x, y = integers(64)
    algo = algo_of("downpour", {"synchronous": synchronous})
    shapes = ((3, 2, 1), (1, 4, 1)) if synchronous else ((4, 1, 1), (1, 3, 1))
    tree, flat = (trained(shape, Batches(cut(x, y, [4] * 16)), algo, make=normalised) for shape in shapes)
    assert tree.state["0.num_batches_tracked"] == flat.state["0.num_batches_tracked"] > 0
    for name, value in flat.state.items():
        torch.testing.assert_close(tree.state[name], value, rtol=1e-12, atol=1e-12)
