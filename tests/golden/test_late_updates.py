"""What asynchronous Downpour does about late updates, against the equations along a known order of events.

Workers of like speed take their batches in turn: update t is from the weights after update t - M, for t < M from the
first ones, so that its delay is min(t, M - 1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnlo import Algo
from nnlo.algos.base import Lineage, Place, Update
from nnlo.algos.downpour import Downpour
from nnlo.algos.downpour_options import DownpourOptions
from nnlo.comm.costs import Costs
from nnlo.comm.virtual import VirtualWorld
from nnlo.flat import Layout
from nnlo.optim import OptimizerSpec
from tests.jobs import Batch, Batches, Rows, Run, cut, labelled, same_bits, train_here

LR = 0.3
STEPS = 12


def network() -> nn.Module:
    torch.manual_seed(4)
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4)).double()


def batches(steps: int = STEPS) -> list[Batch]:
    x, y = labelled(steps * 4)
    return cut(x.astype("float64"), y, [4] * steps)


def in_turn(workers: int, optimizer: str = "sgd", **options: Any) -> Run:
    algo = Algo(optimizer, lr=LR, fused=False, **options)
    run = train_here(VirtualWorld(workers + 1), Batches(batches()), algo, network)
    assert run.delays == [min(t, workers - 1) for t in range(len(run.delays))]
    return run


def flat(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach()


def gradient(w: Tensor, data: Batch) -> Tensor:
    module = network()
    nn.utils.vector_to_parameters(w, module.parameters())
    loss = nn.functional.cross_entropy(module(torch.from_numpy(data[0])), torch.from_numpy(data[1]))
    return nn.utils.parameters_to_vector(torch.autograd.grad(loss, list(module.parameters()))).detach()


def reference(workers: int, step: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> Tensor:
    """The last weights, where step(w, gradient, weights that it is of, delay) gives the next ones."""
    w = flat(network())
    known = [w] * workers
    for t, data in enumerate(batches()):
        read = known[t % workers]
        w = known[t % workers] = step(w, gradient(read, data), read, min(t, workers - 1))
    return w


def check(run: Run, expected: Tensor) -> None:
    plain = reference(1, lambda w, g, read, delay: w - LR * g)
    assert (expected - plain).abs().max() > 1e-4, "this reference tells nothing"
    torch.testing.assert_close(flat(run.model), expected, rtol=1e-12, atol=1e-14)


# The rate by the delay.


@pytest.mark.parametrize(
    ("staleness", "divisor"), [("inverse", lambda d: max(1, d)), ("inverse-plus-one", lambda d: d + 1)]
)
@pytest.mark.parametrize("workers", [2, 3, 4])
def test_the_rate_goes_by_the_delay(workers: int, staleness: str, divisor: Callable[[int], int]) -> None:
    expected = reference(workers, lambda w, g, read, delay: w - LR / divisor(delay) * g)
    run = in_turn(workers, staleness=staleness)
    check(run, expected)
    assert run.last["lr"] == LR, "the history tells the rate that the delay divides"


def test_momentum_is_not_scaled_but_the_rate_is() -> None:
    velocity = torch.zeros_like(flat(network()))

    def step(w: Tensor, g: Tensor, read: Tensor, delay: int) -> Tensor:
        velocity.mul_(0.9).add_(g)
        return w - LR / (delay + 1) * velocity

    check(in_turn(3, "momentum", staleness="inverse-plus-one"), reference(3, step))


def test_a_schedule_goes_on_beside_the_delay() -> None:
    steps = iter(range(STEPS))
    algo = Algo("sgd", lr=LR, fused=False, staleness="inverse-plus-one")
    run = train_here(VirtualWorld(3), Batches(batches()), algo, network, schedule=lambda epoch: 0.5**epoch)
    check(run, reference(2, lambda w, g, read, delay: w - LR * 0.5 ** (next(steps) / STEPS) / (delay + 1) * g))


@pytest.mark.parametrize("staleness", ["inverse", "inverse-plus-one"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_one_worker_is_never_late(optimizer: str, staleness: str) -> None:
    plain, scaled = in_turn(1, optimizer), in_turn(1, optimizer, staleness=staleness)
    assert same_bits(plain.state, scaled.state)


# Delay compensation.


@pytest.mark.parametrize("tau", [1, 2])
@pytest.mark.parametrize("workers", [2, 3])
def test_delay_compensation_with_copies_of_what_each_worker_was_sent(workers: int, tau: int) -> None:
    strength = 2.0
    run = in_turn(workers, delay_compensation=strength, sync_every=tau)
    w = flat(network())
    known = [w.clone() for _ in range(workers)]
    data = batches()
    for t in range(STEPS // tau):
        turn, i = divmod(t, workers)
        own = [data[workers * (tau * turn + k) + i] for k in range(tau)]
        g = torch.stack([gradient(known[i], one) for one in own]).mean(0)
        w = w - LR * (g + strength * g * g * (w - known[i]))
        known[i] = w.clone()
    check(run, w)
    assert (flat(in_turn(workers, sync_every=tau).model) - w).abs().max() > 1e-4


def test_what_is_compensated_goes_through_the_optimizer() -> None:
    strength, first, second = 2.0, torch.zeros_like(flat(network())), torch.zeros_like(flat(network()))
    steps = iter(range(1, 99))

    def step(w: Tensor, g: Tensor, read: Tensor, delay: int) -> Tensor:
        g, k = g + strength * g * g * (w - read), next(steps)
        first.mul_(0.9).add_(0.1 * g)
        second.mul_(0.999).add_(0.001 * g * g)
        return w - LR * (first / (1 - 0.9**k)) / ((second / (1 - 0.999**k)).sqrt() + 1e-8)

    run = in_turn(2, "adam", delay_compensation=strength)
    torch.testing.assert_close(flat(run.model), reference(2, step), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_nothing_to_compensate_changes_no_bit(optimizer: str) -> None:
    alone = in_turn(1, optimizer)
    assert same_bits(alone.state, in_turn(1, optimizer, delay_compensation=2.0).state)
    two = in_turn(2, optimizer)
    assert same_bits(two.state, in_turn(2, optimizer, delay_compensation=5e-324).state)
    assert not same_bits(two.state, in_turn(2, optimizer, delay_compensation=2.0).state)


LAYOUT = Layout.of(nn.Linear(2, 2))


def master(w: Tensor, **options: Any) -> tuple[Downpour, dict[str, Any]]:
    algorithm = Downpour(DownpourOptions(**options))
    place = Place(0, 2, LAYOUT, optimizer=OptimizerSpec.of("sgd", {"lr": 1.0}))
    return algorithm, algorithm.init_master(w, place)


def test_copies_are_made_where_they_are_needed_alone() -> None:
    w = torch.arange(6.0)
    for strength in (0.0, 0.5):
        algorithm, state = master(w, delay_compensation=strength)
        for worker in (1, 2, 1):
            algorithm.answered(worker, w, state)
        copies = [value for entry in state.values() if isinstance(entry, dict) for value in entry.values()]
        assert len(copies) == (2 if strength else 0)
        assert all(torch.equal(copy, w) and copy.data_ptr() != w.data_ptr() for copy in copies)


def test_a_gradient_too_long_to_square_is_compensated_by_what_moved_little() -> None:
    w = torch.zeros(6)
    algorithm, state = master(w, delay_compensation=1.0)
    algorithm.answered(1, w, state)
    w.add_(2.0**-90)
    huge = Update(torch.full((6,), 2.0**100), Lineage(1, 0, 1, 1))
    assert torch.equal(algorithm.merge([huge], w, state), torch.full((6,), 2.0**100 + 2.0**110))


def test_compressed_updates_are_compensated() -> None:
    plain = in_turn(2, compress="fp16")
    changed = in_turn(2, compress="fp16", delay_compensation=2.0)
    exact = in_turn(2, delay_compensation=2.0)
    assert not same_bits(plain.state, changed.state)
    difference = [(flat(one.model) - flat(exact.model)).abs().max().item() for one in (changed, plain)]
    assert difference[0] < 0.1 * difference[1]


# The most that an update may be late.


def one_slow(data: Rows, most: int | None, epochs: int = 2, **options: Any) -> Run:
    """Worker 3 takes ten times as long as the others."""
    costs = Costs(compute=lambda peer, samples: 1e-3 * (10 if peer == 3 else 1))
    algo = Algo("sgd", lr=0.1, max_staleness=most, **options)
    run = train_here(VirtualWorld(4, costs=costs), data, algo, network, epochs=epochs)
    assert run.history["outcome"] == "done"
    clock = [entry["samples"] for entry in run.history["epochs"]]
    assert clock[-1] == epochs * len(data.y), "the clock counts what is refused"
    return run


def total(run: Run, name: str, rank: str | None = None) -> int:
    return sum((entry["ranks"][rank] if rank else entry)[name] for entry in run.history["epochs"])


def slow_data(samples: int = 480) -> Rows:
    return Rows(*labelled(samples), 4)


@pytest.mark.parametrize("most", [4, 8, 18])
def test_updates_that_are_too_late_are_refused(most: int) -> None:
    run = one_slow(slow_data(), most)
    free = one_slow(slow_data(), None)
    assert max(free.delays) > most >= max(run.delays)
    assert total(free, "late") == 0
    late = total(run, "late")
    assert late == total(run, "late", "3") > 0, "only the slow one is late"
    assert total(run, "late_samples") == 4 * late
    assert len(run.delays) == 2 * 480 // 4 - late
    assert sum(len(entry["ranks"]) for entry in run.history["epochs"]) == 6


def test_the_others_do_not_wait_for_who_is_refused() -> None:
    """Refusing takes no longer: the run is as long as one that applies everything."""
    run, free = one_slow(slow_data(), 4), one_slow(slow_data(), None)
    assert run.history["seconds"] == pytest.approx(free.history["seconds"], rel=0.05)


class Scalar(nn.Module):
    """With targets 0 the gradient of the mean square is 2 w."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.w * x


@pytest.mark.parametrize("most", [1, 2, 3])
def test_who_is_refused_begins_again_from_the_weights_now(most: int) -> None:
    """Worker 1 sends a gradient every second, worker 2 every 2.3 seconds, 16 each."""
    costs = Costs(compute=lambda peer, samples: (1.0, 2.3)[peer - 1], latency=0.0, bandwidth=float("inf"))
    data = Batches(cut(np.ones((32, 1)), np.zeros((32, 1)), [1] * 32))
    algo = Algo("sgd", lr=2.0**-6, loss="mse", metrics=(), max_staleness=most, fused=False)
    run = train_here(VirtualWorld(3, costs=costs), data, algo, Scalar)
    w, version, late = 1.0, 0, 0
    known, read = [w, w], [0, 0]
    for _, i in sorted([(k * seconds, i) for i, seconds in enumerate((1.0, 2.3)) for k in range(1, 17)]):
        if version - read[i] <= most:
            w, version = w - 2.0**-6 * 2 * known[i], version + 1
        else:
            late += 1
        known[i], read[i] = w, version
    assert 0 <= late == run.last["late"] and (late > 0) == (most < 3)
    torch.testing.assert_close(run.state["w"], torch.tensor([w], dtype=torch.float64), rtol=1e-13, atol=0)


@pytest.mark.parametrize("options", [{"sync_every": 3, "local_lr": 0.02}, {"compress": "bf16"}, {"sync_every": 2}])
def test_refusals_with_other_options(options: dict[str, Any]) -> None:
    run = one_slow(slow_data(), 2, **options)
    assert total(run, "late") > 0 and max(run.delays) <= 2


def test_none_is_let_through_but_fresh_ones() -> None:
    run = one_slow(slow_data(), 0)
    assert set(run.delays) == {0}
    assert total(run, "updates") + total(run, "late") == 240
