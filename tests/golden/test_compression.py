"""Whole trainings with compressed updates on the virtual clock against loops with the codecs' equations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnlo import Algo
from nnlo.algos.base import Place
from nnlo.comm.virtual import VirtualWorld
from nnlo.compress import CodecSpec
from nnlo.errors import OptionsError
from nnlo.flat import HEADER_BYTES, Layout, aligned
from nnlo.optim import Schedule
from nnlo.training.seeds import Purpose, derived
from tests.codecs import tensors
from tests.jobs import Batch, Batches, Run, cut, labelled, same_bits, train_here

LR, EPOCHS, SEED = 0.25, 3, 11
SIZES = (16,) * 8 + (4,)
Reference = Callable[[Tensor, Layout, int], Tensor]
"""C(p): of a vector, its layout and the number of vectors before it."""


def perceptron() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 4)).double()


def normalised() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 4)).double()


def data(sizes: Sequence[int] = SIZES) -> list[Batch]:
    x, y = labelled(sum(sizes))
    return cut(x.astype("float64"), y, sizes)


def layout() -> Layout:
    return Layout.of(perceptron())


def half(p: Tensor, layout: Layout, step: int) -> Tensor:
    return p.half().double()


def signs(p: Tensor, layout: Layout, step: int) -> Tensor:
    parts = [part.abs().sum() / part.numel() * (1 - 2 * (part < 0).double()) for part in tensors(layout, p)]
    return torch.cat([part.flatten() for part in parts])


def bins(p: Tensor, layout: Layout, step: int) -> Tensor:
    """4 bits: seven levels on either side of 0."""
    steps = [part.abs().max() / 7 for part in tensors(layout, p)]
    parts = [width * torch.floor(part / width + 0.5) for part, width in zip(tensors(layout, p), steps, strict=True)]
    return torch.cat([part.flatten() for part in parts])


def largest(p: Tensor, layout: Layout, step: int) -> Tensor:
    """A tenth."""
    return torch.where(p.abs() >= p.abs().sort().values[-round(0.1 * len(p))], p, 0.0)


def stochastic(p: Tensor, layout: Layout, step: int) -> Tensor:
    """Five levels on either side of 0, by the stream of worker 1."""
    draws = np.random.default_rng((Place(1, 1, layout, derived(SEED, Purpose.ALGORITHM)).stream, step))
    parts = []
    for part in tensors(layout, p):
        width = part.norm() / 5
        below = torch.floor(part / width)
        more = torch.from_numpy(draws.random(part.numel())).view(part.shape) < part / width - below
        parts.append(width * (below + more))
    return torch.cat([part.flatten() for part in parts])


def shrunk(p: Tensor, layout: Layout, step: int) -> Tensor:
    """The same with error feedback: each tensor divided by 1 + E|C(p) - p|^2 / |p|^2."""
    parts = []
    for part, sent in zip(tensors(layout, p), tensors(layout, stochastic(p, layout, step)), strict=True):
        width = part.norm() / 5
        fraction = part / width - torch.floor(part / width)
        variance = width**2 * (fraction * (1 - fraction)).sum()
        parts.append(sent.flatten() / (1 + variance / part.norm() ** 2))
    return torch.cat(parts)


CODECS: dict[str, tuple[Reference, bool]] = {
    "fp16": (half, False),
    "sign": (signs, True),
    "bins:bits=4": (bins, True),
    "topk:ratio=0.1": (largest, True),
    "qsgd:levels=5": (stochastic, False),
}
"""The equations of each codec, and whether it has feedback by itself."""

each_codec = pytest.mark.parametrize("text", CODECS)


def gradient(module: nn.Module, batch: Batch) -> Tensor:
    x, y = map(torch.from_numpy, batch)
    found = torch.autograd.grad(nn.functional.cross_entropy(module(x), y), list(module.parameters()))
    return torch.cat([part.flatten() for part in found])


def step(module: nn.Module, vector: Tensor, rate: float = LR) -> None:
    with torch.no_grad():
        for parameter, part in zip(module.parameters(), tensors(layout(), vector), strict=True):
            parameter.sub_(rate * part)


def plain_loop(codec: Reference, feedback: bool, rates: Sequence[float] = (LR,) * EPOCHS) -> nn.Module:
    """w <- w - eta C(g + e), e <- g + e - C(g + e); e keeps its worth when the rate changes."""
    module, e, steps, last = perceptron(), torch.tensor(0.0), 0, rates[0]
    for rate in rates:
        e, last = e * last / rate, rate
        for batch in data():
            p = gradient(module, batch) + e
            sent = codec(p, layout(), steps)
            e, steps = (p - sent if feedback else e), steps + 1
            step(module, sent, rate)
    return module


def downpour(text: str, **options: Any) -> Algo:
    return Algo("sgd", lr=LR, compress=text, fused=False, **options)


def allreduce(text: str, **options: Any) -> Algo:
    return Algo("sgd", lr=LR, mode="allreduce", compress=text, fused=False, **options)


def trained(workers: int, algo: Algo, batches: Sequence[Batch], **options: Any) -> Run:
    make = options.pop("make", perceptron)
    return train_here(VirtualWorld(workers + 1), Batches(batches), algo, make, epochs=EPOCHS, seed=SEED, **options)


def close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-9)


@each_codec
@pytest.mark.parametrize("make", [downpour, allreduce])
@pytest.mark.parametrize("feedback", [None, True, False])
def test_one_worker_is_a_plain_loop(feedback: bool | None, make: Callable[..., Algo], text: str) -> None:
    codec, by_itself = CODECS[text]
    if feedback and codec is stochastic:
        codec = shrunk
    run = trained(1, make(text, error_feedback=feedback), data())
    expected = plain_loop(codec, by_itself if feedback is None else feedback).state_dict()
    close(run.state, expected)
    assert max((run.state[name] - value).abs().max() for name, value in perceptron().state_dict().items()) > 0.1


@pytest.mark.parametrize("make", [downpour, allreduce])
def test_what_is_left_keeps_its_worth_when_the_rate_changes(make: Callable[..., Algo]) -> None:
    run = trained(1, make("topk:ratio=0.1"), data(), schedule=Schedule.of("step", {"every": 1, "by": 0.5}))
    close(run.state, plain_loop(largest, True, [LR, LR / 2, LR / 4]).state_dict())


def falling(rates: Sequence[float]) -> nn.Module:
    """w <- w - C(eta g + e): what local steps differ by has no unit of the rate."""
    module, e = perceptron(), torch.tensor(0.0)
    for rate in rates:
        for batch in data():
            p = rate * gradient(module, batch) + e
            sent = largest(p, layout(), 0)
            e = p - sent
            step(module, sent, 1.0)
    return module


def test_what_is_left_of_differences_keeps_its_length() -> None:
    algo = Algo(None, mode="local", worker_optimizer_params={"lr": LR}, compress="topk:ratio=0.1", fused=False)
    run = trained(1, algo, data(), schedule=Schedule.of("step", {"every": 1, "by": 0.5}))
    close(run.state, falling([LR, LR / 2, LR / 4]).state_dict())


@pytest.mark.parametrize("make", [downpour, allreduce])
def test_a_rate_that_begins_at_0(make: Callable[..., Algo]) -> None:
    run = trained(1, make("topk:ratio=0.1"), data(), schedule=lambda epoch: min(1.0, epoch))
    assert all(bool(torch.isfinite(value).all()) for value in run.state.values())
    assert run.history["epochs"][-1]["loss"] < run.history["epochs"][0]["loss"]


BOTH = [(downpour, text) for text in ("topk:ratio=0.1", "sign", "bf16")]
BOTH += [(allreduce, text) for text in ("powersgd:rank=2", "topk:ratio=0.1", "sign", "bf16")]


@pytest.mark.parametrize(("make", "text"), BOTH)
def test_a_refused_gradient_leaves_no_trace(make: Callable[..., Algo], text: str) -> None:
    batches = data()
    x, y = batches[3]
    batches[3] = (np.where(np.arange(x.size).reshape(x.shape) == 0, np.nan, x), y)
    run = trained(2, make(text, error_feedback=True), batches, max_bad_updates=5)
    assert all(bool(torch.isfinite(value).all()) for value in run.state.values())
    assert [entry["refused"] for entry in run.history["epochs"]] == [1, 1, 1]


def total(output: Tensor, labels: Tensor) -> Tensor:
    return output.sum(1).mean()


def one_layer() -> nn.Module:
    """Its gradient by `total` is the mean of x, four times."""
    torch.manual_seed(2)
    return nn.Linear(2, 4, bias=False).double()


@pytest.mark.parametrize(
    ("mode", "text", "refused"),
    [
        ("downpour", "topk:ratio=0.1", 2),
        ("downpour", "sign", 2),
        ("allreduce", "topk:ratio=0.1", 2),
        ("allreduce", "sign", 2),
    ],
)
def test_what_adds_up_to_too_much_is_refused(mode: str, text: str, refused: int) -> None:
    """Each second batch: with what was left out of the one before, its gradient is above the largest number."""
    x = np.array([[0.75 * torch.finfo(torch.float64).max, 1.0]])
    algo = Algo("sgd", lr=1e-310, mode=mode, compress=text, loss=f"{__name__}:total", metrics=())
    run = trained(1, algo, [(x, np.zeros(1))] * 4, make=one_layer)
    assert all(bool(torch.isfinite(value).all()) for value in run.state.values())
    assert [entry["refused"] for entry in run.history["epochs"]] == [refused] * 3
    assert not same_bits(run.state, one_layer().state_dict())


@pytest.mark.parametrize("workers", [1, 2])
def test_factors_begin_anew_after_a_sum_that_is_not_finite(workers: int) -> None:
    """The first batch's gradient is finite, and its length is not."""
    x = np.array([[0.75 * torch.finfo(torch.float64).max, 1.0]])
    batches = [(x, np.zeros(1))] * workers + [(np.ones((1, 2)), np.zeros(1))] * 4
    algo = allreduce("powersgd:rank=1", loss=f"{__name__}:total", metrics=())
    run = trained(workers, algo, batches, make=one_layer)
    assert [entry["refused"] for entry in run.history["epochs"]] == [workers] * 3
    before = one_layer().state_dict()["weight"]
    close(run.state, {"weight": before - LR * 3 * 4 / workers})


@pytest.mark.parametrize("make", [downpour, allreduce])
def test_all_of_the_largest_is_no_compression(make: Callable[..., Algo]) -> None:
    run, plain = (trained(1, make(text), data()) for text in ("topk:ratio=1", "none"))
    close(run.state, plain.state)


def several(workers: int, sizes: Sequence[int], codec: Reference) -> nn.Module:
    """Worker i has batches i, M + i, ... and a residual of its own; the step is the mean by samples of what is sent."""
    module = perceptron()
    left = [torch.zeros(layout().numel, dtype=torch.float64) for _ in range(workers)]
    for _ in range(EPOCHS):
        batches = data(sizes)
        for start in range(0, len(batches), workers):
            dealt = batches[start : start + workers]
            vectors = [gradient(module, batch) + e for batch, e in zip(dealt, left, strict=False)]
            sent = [codec(p, layout(), 0) for p in vectors]
            left[: len(dealt)] = [p - c for p, c in zip(vectors, sent, strict=True)]
            samples = [len(y) for _, y in dealt]
            step(module, sum(n * c for n, c in zip(samples, sent, strict=True)) / sum(samples))  # type: ignore[arg-type]
    return module


@pytest.mark.parametrize("text", ["sign", "bins:bits=4", "topk:ratio=0.1"])
@pytest.mark.parametrize("make", [lambda text: downpour(text, synchronous=True), allreduce], ids=["server", "peers"])
def test_several_workers_keep_what_each_left(make: Callable[..., Algo], text: str) -> None:
    """The last round has one batch for three workers."""
    sizes = (16, 8, 8) * 3 + (5,)
    run = trained(3, make(text), data(sizes))
    close(run.state, several(3, sizes, CODECS[text][0]).state_dict())


@pytest.mark.parametrize("last", [(), (8, 4), (8,)], ids=str)
@pytest.mark.parametrize("feedback", [True, False])
def test_low_rank_among_two_workers_is_that_of_their_mean(feedback: bool, last: tuple[int, ...]) -> None:
    sizes, unions = (16,) * 8 + last, (32,) * 4 + ((sum(last),) if last else ())
    algo = allreduce("powersgd:rank=2", error_feedback=feedback)
    pair, alone = trained(2, algo, data(sizes)), trained(1, algo, data(unions))
    close(pair.state, alone.state)
    other = trained(1, allreduce("powersgd:rank=2", error_feedback=not feedback), data(unions))
    assert any((other.state[name] - value).abs().max() > 1e-3 for name, value in alone.state.items())


def test_full_rank_is_no_compression() -> None:
    run, plain = (
        trained(2, allreduce(text), data(), make=lambda: nn.Linear(8, 4).double())
        for text in ("powersgd:rank=4", "none")
    )
    close(run.state, plain.state)


ALL = {"none": 82 * 8, "fp16": 82 * 2, "sign": 4 * 8 + 11, "bins:bits=4": 4 * 8 + 41, "topk:ratio=0.1": 8 * 12}
"""The bytes of a perceptron's update: 48 + 6 + 24 + 4 numbers of 8 bytes in four tensors."""


@pytest.mark.parametrize("text", ALL)
def test_the_history_counts_the_bytes_that_the_codec_states(text: str) -> None:
    """With 8 bytes each for loss and accuracy; and words of 64 bytes: who is ready, whose generator has ended."""
    run = trained(2, downpour(text), data())
    whole = HEADER_BYTES + aligned(2 * 8)
    words = [entry["bytes_up"] - len(SIZES) * (whole + aligned(ALL[text])) for entry in run.history["epochs"]]
    assert words == [3 * HEADER_BYTES, 2 * HEADER_BYTES, 3 * HEADER_BYTES]
    weights = HEADER_BYTES + aligned(2 * 8) + aligned(ALL["none"])
    assert run.history["epochs"][1]["bytes_down"] >= len(SIZES) * weights
    spec = CodecSpec.of(text)
    assert spec is None or spec.build(layout()).nbytes == ALL[text]


def test_buffers_travel_beside_what_is_compressed() -> None:
    run = trained(2, downpour("topk:ratio=0.1"), data(), make=normalised)
    body = aligned(2 * 8) + aligned(8) + aligned(12 * 8) + aligned(9 * 12)
    assert run.history["epochs"][0]["bytes_up"] == len(SIZES) * (HEADER_BYTES + body) + 3 * HEADER_BYTES


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [("sign", 2 * (4 * 8 + 11)), ("topk:ratio=0.1", 2 * 8 * 12), ("powersgd:rank=2", 4 / 3 * 8 * (2 * 24 + 10))],
)
def test_the_bytes_of_collectives(text: str, nbytes: float) -> None:
    """Every rank sends its update to both others; or 2 (M - 1) / M times what is summed."""
    run = trained(3, allreduce(text), data())
    assert run.history["epochs"][0]["bytes_up"] == 3 * 3 * round(nbytes)


@pytest.mark.parametrize("mode", ["allreduce", "local"])
def test_a_rank_that_the_model_does_not_have_is_refused_before_training(mode: str) -> None:
    algo = Algo("sgd" if mode == "allreduce" else None, mode=mode, compress="powersgd:rank=5")
    with pytest.raises(
        OptionsError, match=r"^--compress powersgd: rank 5 is too large for '2.weight' of shape 4 x 6: "
    ):
        trained(2, algo, data())
