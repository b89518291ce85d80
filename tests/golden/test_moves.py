"""Replies that say by how much a worker's weights are to move: v <- v + C(w - v), against plain loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from nnlo import Algo
from nnlo.comm.virtual import VirtualWorld
from nnlo.flat import HEADER_BYTES, aligned
from nnlo.roles.stepping import Stepper
from nnlo.roles.worker import Worker
from tests.golden.test_compression import (
    ALL,
    CODECS,
    LR,
    SIZES,
    close,
    data,
    gradient,
    layout,
    normalised,
    perceptron,
    tensors,
    trained,
)
from tests.golden.test_synchronous import LR as DYADIC
from tests.golden.test_synchronous import integers, linear
from tests.golden.test_trees import Spoiled
from tests.jobs import Batches, Run, cut, same_bits, train_here

DETERMINISTIC = [text for text in CODECS if not text.startswith("qsgd")]
STEPS = 3


def algo(down: str, **options: Any) -> Algo:
    return Algo("sgd", lr=LR, compress_down=down, fused=False, **options)


def reference(down: str, workers: int, sizes: Sequence[int], steps: int = 1, local: float = 0.0) -> Tensor:
    """The centre after three epochs of rounds in which each worker sends the mean gradient of `steps` batches."""
    codec, w = CODECS[down][0], torch.cat([p.detach().flatten() for p in perceptron().parameters()])
    v = w.clone()
    for _ in range(STEPS):
        batches = data(sizes)
        for start in range(0, len(batches), workers * steps):
            found, samples = torch.zeros_like(w), 0
            for own in range(start, start + workers * steps, steps):
                x = v.clone()
                for batch in batches[own : own + steps]:
                    g = gradient(at(x), batch)
                    found, samples, x = found + len(batch[1]) * g, samples + len(batch[1]), x - local * g
            w = w - LR * found / samples
            v = v + codec(w - v, layout(), 0)
    return w


def at(vector: Tensor) -> torch.nn.Module:
    module = perceptron()
    with torch.no_grad():
        for parameter, part in zip(module.parameters(), tensors(layout(), vector), strict=True):
            parameter.copy_(part)
    return module


def check(run: Run, vector: Tensor) -> None:
    close(run.state, at(vector).state_dict())


@pytest.mark.parametrize("down", DETERMINISTIC)
def test_one_worker_is_a_plain_loop(down: str) -> None:
    run = trained(1, algo(down), data())
    check(run, reference(down, 1, SIZES))
    exact = trained(1, algo("none"), data())
    assert max((run.state[name] - value).abs().max() for name, value in exact.state.items()) > 1e-6


@pytest.mark.parametrize("down", ["sign", "topk:ratio=0.1"])
def test_workers_that_step_by_themselves_go_on_from_what_they_were_sent(down: str) -> None:
    sizes = (16,) * 6
    run = trained(1, algo(down, sync_every=2, local_lr=0.02), data(sizes))
    check(run, reference(down, 1, sizes, steps=2, local=0.02))


@pytest.mark.parametrize("down", ["sign", "topk:ratio=0.1"])
def test_synchronous_workers_have_the_same_weights(down: str) -> None:
    sizes = (16, 8, 4) * 3
    check(trained(3, algo(down, synchronous=True), data(sizes)), reference(down, 3, sizes))


@pytest.mark.parametrize("options", [{}, {"synchronous": True}, {"max_staleness": 1}, {"delay_compensation": 0.5}])
@pytest.mark.parametrize("down", ["fp16", "sign", "topk:ratio=0.1", "qsgd:levels=5"])
def test_both_ends_have_the_same_bits(down: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    for kind in (Worker, Stepper):
        monkeypatch.setattr(kind, "__init__", keeping(kind.__init__, made))
    trained(3, algo(down, **options), data((16,) * 10))
    stepper, *workers = sorted(made, key=lambda one: isinstance(one, Worker))
    assert isinstance(stepper, Stepper) and stepper.moves is not None and len(workers) == 3
    for worker in workers:
        had = stepper.moves._weights[worker.transport.id]
        assert torch.equal(worker.x, had) and not torch.equal(had, stepper.centre.arena.vector)
        if stepper.state["known"]:
            assert torch.equal(stepper.state["known"][worker.transport.id], had)


def keeping(begin: Any, made: list[Any]) -> Any:
    def init(one: Any, *args: Any) -> None:
        made.append(one)
        begin(one, *args)

    return init


@pytest.mark.parametrize("options", [{}, {"synchronous": True}, {"synchronous": True, "sync_every": 2}])
def test_what_loses_nothing_changes_nothing(options: dict[str, Any]) -> None:
    """Dyadic data; the k largest of all n are all."""
    x, y = integers(32)
    plain, moved = (
        train_here(
            VirtualWorld(3), Batches(cut(x, y, [4] * 8)),
            Algo("sgd", lr=DYADIC, loss="mse", fused=False, compress_down=down, **options), linear, epochs=1,
        )
        for down in ("none", "topk:ratio=1")
    )  # fmt: skip
    assert same_bits(plain.state, moved.state) and plain.delays == moved.delays
    assert not same_bits(plain.state, linear().state_dict())


@pytest.mark.parametrize("down", ["fp16", "topk:ratio=0.5"])
@pytest.mark.parametrize("masters", [2, 3])
def test_a_head_of_masters_is_one_master(masters: int, down: str) -> None:
    x, y = integers(48)
    tree, flat = (
        train_here(
            VirtualWorld(size), Batches(cut(x, y, [4] * 12)),
            Algo("sgd", lr=DYADIC, loss="mse", fused=False, compress_down=down, synchronous=True), linear,
            num_masters=of, epochs=1,
        )
        for size, of in ((masters + 4, masters), (5, 1))
    )  # fmt: skip
    assert same_bits(tree.state, flat.state) and tree.delays == flat.delays


@pytest.mark.parametrize("masters", [1, 3])
@pytest.mark.parametrize("synchronous", [True, False])
def test_who_is_refused_begins_from_whole_weights(synchronous: bool, masters: int) -> None:
    settings = Algo("sgd", lr=DYADIC, loss="mse", compress_down="topk:ratio=0.3", synchronous=synchronous)
    world = VirtualWorld(masters + 4)
    run = train_here(world, Spoiled(), settings, linear, num_masters=masters, epochs=2, max_bad_updates=1000)
    assert run.last["refused"] > 0 and all(bool(torch.isfinite(value).all()) for value in run.state.values())
    assert run.last["samples"] == 2 * 4 * sum(3 + 4 * worker for worker in range(4))


@pytest.mark.parametrize("down", ALL)
def test_the_history_counts_the_bytes_that_the_codec_states(down: str) -> None:
    """Every update is answered once; that the generator has ended is a message too, answered without a move."""
    run = trained(1, algo(down), data((16,) * 12))
    answer = HEADER_BYTES + aligned(2 * 8) + aligned(ALL[down])
    ended = answer if down == "none" else HEADER_BYTES
    assert run.history["epochs"][1]["bytes_down"] == 12 * answer + ended


def test_buffers_travel_beside_the_moves() -> None:
    sent, plain = (trained(1, algo(down), data(), make=normalised) for down in ("topk:ratio=1", "none"))
    assert sent.state["1.num_batches_tracked"] == plain.state["1.num_batches_tracked"] > 0
    close(sent.state, plain.state)
