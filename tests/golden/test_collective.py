"""The maths of modes allreduce and local against loops written from their equations, without a transport.

Data are small integers, weights multiples of a power of two, and a round's samples a power of two, so that every
product and sum is exact in float64 and no order of summation can show.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnlo import Algo
from nnlo.algos import CollectiveAlgorithm, Place
from nnlo.errors import OptionsError
from nnlo.flat import Layout

INPUTS = 4
LR = 2.0**-5
Batch = tuple[Tensor, Tensor]
#: Sizes of three workers' batches, round by round; 0: a worker that has none left.
ROUNDS = [(8, 4, 4), (8, 4, 4), (4, 4, 8), (2, 1, 1), (4, 4, 0)]


def weights() -> Tensor:
    return torch.tensor([3.0, -5.0, 1.0, 7.0], dtype=torch.float64) / 8


def rows(rounds: Sequence[Sequence[int]] = ROUNDS, seed: int = 3) -> list[list[Batch]]:
    """Integer features and targets: [round][worker]."""
    rng = np.random.default_rng(seed)

    def some(size: int) -> Batch:
        return torch.tensor(rng.integers(-2, 3, (size, INPUTS)) * 1.0), torch.tensor(rng.integers(-2, 3, size) * 1.0)

    return [[some(size) for size in sizes] for sizes in rounds]


def gradient(w: Tensor, batch: Batch) -> Tensor:
    """Of the batch's mean of 1/2 (a.w - b)^2."""
    a, b = batch
    return a.T @ (a @ w - b) / len(b)


def union(batches: Sequence[Batch]) -> Batch:
    return torch.cat([a for a, _ in batches]), torch.cat([b for _, b in batches])


def algorithm_of(algo: Algo) -> CollectiveAlgorithm:
    found: Any = algo.algorithm
    assert isinstance(found, CollectiveAlgorithm)
    return found


class Workers:
    """M workers of a collective mode as plain calls; their updates are averaged by samples."""

    def __init__(self, mode: str, workers: int, w: Tensor | None = None, **options: Any) -> None:
        optimizer = options.pop("optimizer", "sgd" if mode == "allreduce" else None)
        algo = Algo(optimizer, mode=mode, loss="mse", metrics=(), fused=False, **options)
        self.algorithm = algorithm_of(algo)
        w = weights() if w is None else w
        self.x = [torch.zeros_like(w) for _ in range(workers)]
        self.memory = [torch.full_like(w, math.nan) for _ in range(workers)]
        layout = Layout.of(nn.Linear(len(w), 1, bias=False, dtype=w.dtype))
        places = [Place(1 + i, workers, layout, optimizer=algo.optimizer) for i in range(workers)]
        self.state = [self.algorithm.init(*one) for one in zip(self.x, self.memory, places, strict=True)]
        for x, state in zip(self.x, self.state, strict=True):
            self.algorithm.start(x, w, state)

    @property
    def w(self) -> Tensor:
        """What all workers have after an exchange."""
        assert all(torch.equal(x, self.x[0]) for x in self.x)
        return self.x[0]

    def local(self, worker: int, batch: Batch) -> None:
        direct = self.algorithm.gradient_is_update
        place = self.memory[worker] if direct else torch.empty_like(self.x[worker])
        place.copy_(gradient(self.x[worker], batch))
        self.algorithm.local(self.x[worker], place, len(batch[1]), self.state[worker])

    def round(self, batches: Sequence[Sequence[Batch]]) -> None:
        """One exchange after these batches of each worker."""
        for worker, own in enumerate(batches):
            for batch in own:
                self.local(worker, batch)
        samples = [sum(len(b) for _, b in own) for own in batches]
        merged = torch.zeros_like(self.x[0])
        for i, n in enumerate(samples):
            merged += n * self.algorithm.send(self.x[i], self.state[i]) if n else 0
        for x, state in zip(self.x, self.state, strict=True):
            self.algorithm.apply(x, merged / sum(samples), state)

    def each(self, call: str, value: Any) -> None:
        for state in self.state:
            getattr(self.algorithm, call)(value, state)


def trained(workers: Workers, rounds: Sequence[Sequence[Batch]]) -> Tensor:
    """The weights after one batch a worker and round; the batches of size 0 are not there."""
    for batches in rounds:
        workers.round([[batch] if len(batch[1]) else [] for batch in batches])
    return workers.w


def one_process(rounds: Sequence[Sequence[Batch]], **settings: Any) -> Tensor:
    """torch's own SGD on the union of each round's batches."""
    w = weights()
    optimizer = torch.optim.SGD([w], foreach=False, **settings)
    for batches in rounds:
        w.grad = gradient(w, union(batches))
        optimizer.step()
    assert torch.equal(w * 2.0**48, (w * 2.0**48).round()), "far from the end of the mantissas: nothing was rounded"
    return w


# Synchronous data parallel.


@pytest.mark.parametrize("settings", [{"lr": LR}, {"lr": LR, "momentum": 0.5}], ids=str)
def test_allreduce_is_one_process_with_the_union_of_the_batches(settings: dict[str, Any]) -> None:
    assert torch.equal(trained(Workers("allreduce", 3, **settings), rows()), one_process(rows(), **settings))


def test_allreduce_of_several_batches_is_their_mean_at_one_point() -> None:
    workers, data = Workers("allreduce", 2, lr=LR, sync_every=2), rows([(4, 8, 2, 2), (8, 4, 2, 2)])
    for first, second, third, fourth in data:
        workers.round([[first, third], [second, fourth]])
    torch.testing.assert_close(workers.w, one_process(data, lr=LR), rtol=1e-14, atol=1e-15)


def test_a_refused_round_of_several_batches_is_forgotten() -> None:
    workers, data = Workers("allreduce", 1, lr=LR, sync_every=2), rows([(4, 4)])[0]
    workers.local(0, data[0])
    workers.algorithm.refused(workers.x[0], workers.state[0])
    workers.round([[data[1]]])
    assert torch.equal(workers.w, one_process([[data[1]]], lr=LR))


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, 2**20),
        ({"bucket_mib": 0.5}, 2**19),
        ({"bucket_mib": 1e-9}, 1),
        ({"bucket_mib": 0}, 0),
        ({"sync_every": 2}, 0),
        ({"compress": "bf16"}, 0),
    ],
    ids=str,
)
def test_what_is_reduced_during_the_backward_pass(options: dict[str, Any], size: int) -> None:
    assert algorithm_of(Algo(mode="allreduce", **options)).bucket_bytes == size


# Local SGD.


def test_local_sgd_that_exchanges_every_batch_is_allreduce() -> None:
    local = trained(Workers("local", 3, worker_optimizer_params={"lr": LR}), rows())
    assert torch.equal(local, trained(Workers("allreduce", 3, lr=LR), rows()))
    assert torch.equal(local, one_process(rows(), lr=LR))


def local_steps(w: Tensor, batches: Sequence[Batch], lr: float = LR) -> Tensor:
    for batch in batches:
        w = w - lr * gradient(w, batch)
    return w


def mean_by_samples(vectors: Sequence[Tensor], batches: Sequence[Sequence[Batch]]) -> Tensor:
    samples = [sum(len(b) for _, b in own) for own in batches]
    return torch.stack([n * v for n, v in zip(samples, vectors, strict=True)]).sum(0) / sum(samples)


def in_threes(rounds: int, seed: int = 5) -> list[list[list[Batch]]]:
    """[round][worker]: three batches of each of two workers."""
    return [[data[:3], data[3:]] for data in rows([(4, 2, 2, 2, 4, 2)] * rounds, seed)]


def in_local(data: Sequence[Sequence[Sequence[Batch]]], w: Tensor | None = None, **options: Any) -> Workers:
    workers = Workers("local", 2, w, worker_optimizer_params={"lr": LR}, sync_every=3, **options)
    for batches in data:
        workers.round(batches)
    return workers


def test_local_sgd_is_the_mean_of_the_workers_weights() -> None:
    data, w = in_threes(2), weights()
    for batches in data:
        w = mean_by_samples([local_steps(w, own) for own in batches], batches)
    assert not torch.equal(w, one_process([[*first, *second] for first, second in data], lr=LR))
    assert torch.equal(in_local(data).w, w)


def test_a_worker_without_batches_follows() -> None:
    (mine, _), w = in_threes(1)[0], weights()
    assert torch.equal(in_local([[mine, []]]).w, local_steps(w, mine))


def test_slowmo_that_exchanges_every_batch_is_momentum_sgd_with_large_batches() -> None:
    workers = Workers("local", 3, worker_optimizer_params={"lr": LR}, outer_momentum=0.5)
    assert torch.equal(trained(workers, rows()), one_process(rows(), lr=LR, momentum=0.5))


def test_one_worker_without_momentum_is_lookahead() -> None:
    """Zhang et al. 2019, arXiv 1907.08610, algorithm 1: phi <- phi + alpha (theta - phi) after k inner steps."""
    data = [[mine] for mine, _ in in_threes(3)]
    workers = Workers("local", 1, worker_optimizer_params={"lr": LR}, sync_every=3, outer_lr=0.5)
    phi = weights()
    for batches in data:
        workers.round(batches)
        phi = phi + 0.5 * (local_steps(phi, batches[0]) - phi)
    assert torch.equal(workers.w, phi)


def slowmo(data: Sequence[Sequence[Sequence[Batch]]], factors: Sequence[float], alpha: float, beta: float) -> Tensor:
    """Algorithm 1 of SlowMo as the paper writes it, with gamma the rate of the round."""
    x, u = weights(), torch.zeros(INPUTS, dtype=torch.float64)
    for batches, factor in zip(data, factors, strict=True):
        gamma = LR * factor
        mean = mean_by_samples([local_steps(x, own, gamma) for own in batches], batches)
        u = beta * u + (x - mean) / gamma
        x = x - alpha * gamma * u
    return x


def scaled(data: Sequence[Sequence[Sequence[Batch]]], factors: Sequence[float], **options: Any) -> Tensor:
    workers = in_local([], **options)
    for batches, factor in zip(data, factors, strict=True):
        workers.each("scale", factor)
        workers.round(batches)
    return workers.w


def test_slowmo_at_a_constant_rate_is_an_outer_heavy_ball() -> None:
    data, w = in_threes(2), weights()
    outer = torch.optim.SGD([w], lr=0.5, momentum=0.5, foreach=False)
    for batches in data:
        w.grad = w - mean_by_samples([local_steps(w, own) for own in batches], batches)
        outer.step()
    ours = in_local(data, outer_lr=0.5, outer_momentum=0.5).w
    assert torch.equal(ours, w)
    assert torch.equal(ours, slowmo(data, [1.0] * 2, 0.5, 0.5))


def test_slowmo_under_a_schedule_divides_by_the_rate_of_the_round() -> None:
    data, factors = in_threes(4), [0.5, 1.0, 0.25, 2.0]
    ours = scaled(data, factors, outer_lr=0.5, outer_momentum=0.5)
    torch.testing.assert_close(ours, slowmo(data, factors, 0.5, 0.5), rtol=1e-14, atol=1e-15)


def test_a_round_at_rate_0_changes_nothing() -> None:
    """A warm-up begins with it; the momentum is as it was when the rate comes back."""
    data = in_threes(2)
    with_rest = scaled([data[0], data[1], data[1]], [1.0, 0.0, 1.0], outer_momentum=0.5)
    assert torch.equal(with_rest, scaled(data, [1.0, 1.0], outer_momentum=0.5))
    assert torch.equal(scaled([data[0]], [0.0], outer_momentum=0.5), weights())


def test_the_first_step_of_nesterovs_form() -> None:
    data, w = in_threes(1), weights()
    delta = w - mean_by_samples([local_steps(w, own) for own in data[0]], data[0])
    ours = in_local(data, outer_lr=0.5, outer_momentum=0.75, nesterov_outer=True).w
    assert torch.equal(ours, w - 0.5 * (1 + 0.75) * delta)


def test_diloco_is_adamw_inside_and_torchs_nesterov_outside() -> None:
    data, w = in_threes(4), weights()
    options: dict[str, Any] = {"outer_lr": 0.7, "outer_momentum": 0.9, "nesterov_outer": True, "sync_every": 3}
    workers = Workers("local", 2, worker_optimizer="adamw", worker_optimizer_params={"lr": 0.01}, **options)
    outer = torch.optim.SGD([w], lr=0.7, momentum=0.9, nesterov=True, foreach=False)
    x = [w.clone(), w.clone()]
    inner = [torch.optim.AdamW([one], lr=0.01, fused=True) for one in x]
    for batches in data:
        workers.round(batches)
        for one, optimizer, own in zip(x, inner, batches, strict=True):
            one.copy_(w)
            for batch in own:
                one.grad = gradient(one, batch)
                optimizer.step()
        w.grad = w - mean_by_samples(x, batches)
        outer.step()
    torch.testing.assert_close(workers.w, w, rtol=1e-13, atol=1e-14)


def test_the_inner_optimizers_state_stays_local() -> None:
    data, w = in_threes(2), weights()
    settings = {"lr": LR, "momentum": 0.5}
    workers = Workers("local", 2, worker_optimizer_params=settings, sync_every=3)
    v = [torch.zeros_like(w), torch.zeros_like(w)]
    for batches in data:
        workers.round(batches)
        x = [w, w]
        for i, own in enumerate(batches):
            for batch in own:
                v[i] = 0.5 * v[i] + gradient(x[i], batch)
                x[i] = x[i] - LR * v[i]
        w = mean_by_samples(x, batches)
    assert torch.equal(workers.w, w)
    kept = [state["optimizer"].state_dict()["state"][0]["momentum_buffer"] for state in workers.state]
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(kept, v, strict=True))
    assert not torch.equal(*kept)


def test_post_local_sgd_exchanges_every_batch_and_then_every_third() -> None:
    """The outer optimizer rests in the first two epochs: all is as if training had begun after them."""
    first, data = rows([(4, 4), (2, 2)]), in_threes(2)
    options: dict[str, Any] = {"outer_lr": 0.5, "outer_momentum": 0.5}
    workers = in_local([], post_local_from=2, **options)
    assert [workers.algorithm.batches(epoch) for epoch in range(4)] == [1, 1, 3, 3]
    for epoch, whole in enumerate(first):
        if epoch:
            workers.each("begin", epoch)
        workers.round([[batch] for batch in whole])
    assert torch.equal(workers.w, one_process(first, lr=LR))
    after = in_local(data, workers.w.clone(), **options)
    workers.each("begin", 2)
    for batches in data:
        workers.round(batches)
    assert torch.equal(workers.w, after.w)


def test_without_post_local_every_epoch_is_alike() -> None:
    workers = in_local([], outer_lr=0.5)
    assert [workers.algorithm.batches(epoch) for epoch in range(2)] == [3, 3]
    workers.each("begin", 0)
    workers.round(in_threes(1)[0])
    assert torch.equal(workers.w, in_local(in_threes(1), outer_lr=0.5).w)


def test_a_refused_round_is_dropped() -> None:
    workers = Workers("local", 2, worker_optimizer_params={"lr": LR}, sync_every=2, outer_momentum=0.5)
    workers.round([[batch] for batch in rows([(4, 4)])[0]])
    before, u, optimizers = workers.w.clone(), workers.state[0]["u"].clone(), [s["optimizer"] for s in workers.state]
    for i, batch in enumerate(rows([(4, 4)], seed=4)[0]):
        workers.local(i, batch)
        workers.algorithm.send(workers.x[i], workers.state[i])
        workers.algorithm.refused(workers.x[i], workers.state[i])
    assert torch.equal(workers.w, before)
    assert torch.equal(workers.state[0]["u"], u)
    assert [state["optimizer"] for state in workers.state] == optimizers


@pytest.mark.parametrize("optimizer", ["momentum", "adam", "adagrad"])
def test_who_kept_a_nan_in_its_inner_optimizer_begins_that_anew(optimizer: str) -> None:
    """At the rate of now; one that is sound goes on."""
    settings = {"lr": LR}
    workers = Workers("local", 2, worker_optimizer=optimizer, worker_optimizer_params=settings)
    workers.each("scale", 0.5)
    workers.round([[batch] for batch in rows([(4, 4)])[0]])
    mine, theirs = (state["optimizer"] for state in workers.state)
    good, (a, b) = rows([(4, 4)], seed=4)[0]
    workers.local(0, good)
    workers.local(1, (a * math.nan, b))
    assert not torch.isfinite(workers.algorithm.send(workers.x[1], workers.state[1])).any()
    delta = workers.algorithm.send(workers.x[0], workers.state[0]).clone()
    for x, state in zip(workers.x, workers.state, strict=True):
        workers.algorithm.dropped(x, state)
        workers.algorithm.apply(x, delta.clone(), state)
    assert workers.state[0]["optimizer"] is mine
    assert workers.state[1]["optimizer"] is not theirs
    assert workers.state[1]["optimizer"].lr == 0.5 * LR
    workers.round([[], [good]])
    assert torch.isfinite(workers.w).all()


def test_the_rate_and_its_schedule_are_the_inner_optimizers() -> None:
    workers = in_local([])
    assert workers.algorithm.rate == LR
    workers.each("scale", 0.5)
    assert [state["optimizer"].lr for state in workers.state] == [LR / 2, LR / 2]


def saved(workers: Workers) -> list[dict[str, Any]]:
    """The states in plain types, through a file."""
    plain = [
        {key: value.state_dict() if key == "optimizer" else value for key, value in state.items()}
        for state in workers.state
    ]
    file = io.BytesIO()
    torch.save(plain, file)
    file.seek(0)
    loaded: list[dict[str, Any]] = torch.load(file, weights_only=True)
    return loaded


def restore(workers: Workers, states: list[dict[str, Any]], x: Sequence[Tensor]) -> None:
    for mine, theirs in zip(workers.x, x, strict=True):
        mine.copy_(theirs)
    for state, values in zip(workers.state, states, strict=True):
        for key, value in values.items():
            if key == "optimizer":
                state[key].load_state_dict(value)
            elif isinstance(value, Tensor):
                state[key].copy_(value)
            else:
                state[key] = value


def diloco(workers: int = 2) -> Workers:
    options: dict[str, Any] = {"outer_lr": 0.7, "outer_momentum": 0.9, "nesterov_outer": True, "sync_every": 3}
    options["post_local_from"] = 1
    return Workers("local", workers, worker_optimizer="adam", worker_optimizer_params={"lr": 0.01}, **options)


def test_training_goes_on_from_a_saved_state_within_a_round() -> None:
    def begun() -> Workers:
        workers = diloco()
        for epoch, batches in enumerate(in_threes(2)):
            workers.each("begin", epoch)
            workers.each("scale", 0.5 / (1 + epoch))
            workers.round(batches)
        workers.local(0, in_threes(3)[2][0][0])
        return workers

    whole, first, second = begun(), begun(), diloco()
    restore(second, saved(first), first.x)
    for workers in (whole, second):
        workers.each("scale", 0.3)
        workers.round([[], in_threes(3)[2][1]])
    assert torch.equal(whole.w, second.w)
    assert not torch.equal(whole.w, begun().x[1])


@pytest.mark.parametrize(
    ("mode", "options", "message"),
    [
        ("local", {"nesterov_outer": True}, "--nesterov-outer needs --outer-momentum"),
        ("local", {"post_local_from": 1}, "--post-local-from has no effect with --sync-every 1"),
        ("local", {"post_local_from": 0, "sync_every": 2}, "--post-local-from must be at least 1"),
        ("local", {"outer_lr": 0.0}, "--outer-lr must be above 0"),
        ("local", {"outer_momentum": 1.0}, "--outer-momentum must be below 1"),
        ("local", {"outer_momentum": -0.1}, "--outer-momentum must be at least 0"),
        ("local", {"worker_optimizer_params": {"beta": 1}}, "--worker-optimizer-params.*no setting 'beta'"),
        ("allreduce", {"bucket_mib": -1}, "--bucket-mib must be at least 0"),
        ("allreduce", {"bucket_mib": 2, "sync_every": 4}, "--bucket-mib has no effect with --sync-every 4"),
        ("allreduce", {"bucket_mib": 0, "compress": "fp16"}, "--bucket-mib has no effect with --compress fp16"),
    ],
)
def test_settings_that_make_no_sense(mode: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message) as caught:
        Algo("sgd" if mode == "allreduce" else None, mode=mode, **options)
    assert "\n" not in str(caught.value)
