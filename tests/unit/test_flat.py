"""A module in one arena: what is laid out, what is refused, and that nothing is ever copied."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nnlo.errors import OptionsError
from nnlo.flat import ALIGNMENT, HEADER_BYTES, Arena, Flat, Layout, Slot
from nnlo.gradients import Gradients


def storage(nbytes: int) -> Tensor:
    return torch.zeros(nbytes, dtype=torch.uint8)


def arena(layout: Layout, sums: int = 2) -> Arena:
    return Arena(layout, sums, storage(Arena.nbytes(layout, sums)))


def flat(module: nn.Module) -> tuple[Flat, Arena, Arena]:
    """The module with its weights in the first arena, gradients and buffers in the second."""
    layout = Layout.of(module)
    down, up = arena(layout), arena(layout)
    whole = Flat(module, layout, down.vector, up.buffers)
    Gradients(module, layout, up.vector)
    return whole, down, up


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.frozen = nn.Linear(4, 3).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.frozen(self.second(torch.tanh(self.first(x))))  # type: ignore[no-any-return]


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))


# The layout.


def test_tied_parameters_lie_there_once_and_frozen_ones_not_at_all() -> None:
    layout = Layout.of(Tied())
    assert layout.parameters == (Slot("first.weight", (4, 4), 0), Slot("first.bias", (4,), 16))
    assert layout.numel == 20


def test_float_buffers_and_counters_lie_apart() -> None:
    layout = Layout.of(normalised())
    assert layout.buffers == (Slot("1.running_mean", (3,), 0), Slot("1.running_var", (3,), 3))
    assert layout.counters == (Slot("1.num_batches_tracked", (), 0),)


def test_parameters_of_no_dimension_and_of_no_element() -> None:
    module = nn.ParameterDict({"empty": nn.Parameter(torch.zeros(0, 3)), "scale": nn.Parameter(torch.tensor(2.0))})
    whole, down, _ = flat(module)
    assert whole.layout.numel == 1
    assert down.vector.tolist() == [2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_one_float_type_of_the_model(dtype: torch.dtype) -> None:
    _, down, _ = flat(normalised().to(dtype))
    assert down.vector.dtype == down.buffers.dtype == dtype
    assert down.counters.dtype == torch.int64 and down.sums.dtype == torch.float64


def mixed() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())


def mixed_buffer() -> nn.Module:
    module = normalised()
    module[1].running_var = module[1].running_var.double()
    return module


def complex_buffer() -> nn.Module:
    module = nn.Linear(2, 2)
    module.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    return module


def complex_parameter() -> nn.Module:
    return nn.Linear(2, 2, dtype=torch.complex64)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(2, 2).requires_grad_(False), "no parameter to train"),
        (nn.ReLU, "no parameter to train"),
        (lambda: nn.LazyLinear(2), "'weight' of the model has no shape yet: run one batch through it"),
        (mixed, "'1.weight' of the model is torch.float64, others are torch.float32: use one float type"),
        (mixed_buffer, "'1.running_var' of the model is torch.float64, others are torch.float32"),
        (complex_parameter, "'weight' of the model is torch.complex64"),
        (complex_buffer, "'phase' of the model is torch.complex64"),
    ],
)
def test_what_one_float_vector_cannot_hold_is_refused(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(OptionsError, match=message) as caught:
        Layout.of(make())
    assert "\n" not in str(caught.value)


def test_digest_tells_models_apart() -> None:
    def digest(make: Callable[[], nn.Module]) -> str:
        torch.manual_seed(1)
        return Layout.of(make()).digest

    assert digest(Tied) == digest(Tied)
    assert digest(normalised) != digest(Tied)
    assert digest(lambda: nn.Linear(2, 3)) != digest(lambda: nn.Linear(3, 2, bias=False))
    assert digest(lambda: nn.Linear(2, 3)) != digest(lambda: nn.Linear(2, 3).double())
    assert digest(lambda: nn.Sequential(nn.Linear(2, 3))) != digest(lambda: nn.Linear(2, 3))


def test_digest_sees_frozen_values_and_not_those_that_are_sent() -> None:
    module = Tied()
    before = Layout.of(module).digest
    nn.init.ones_(module.first.weight)
    assert Layout.of(module).digest == before
    nn.init.ones_(module.frozen.weight)
    assert Layout.of(module).digest != before


# The module in its memory.


def test_values_are_kept_and_share_the_memory() -> None:
    module = normalised()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    whole, down, up = flat(module)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.cat([p.detach().flatten() for p in module.parameters()]), down.vector)
    down.vector.fill_(7.0)
    up.buffers.fill_(5.0)
    assert all(torch.equal(p, torch.full_like(p, 7.0)) for p in module.parameters())
    assert module[1].running_mean.tolist() == [5.0] * 3
    with torch.no_grad():
        module[3].bias[1] = -1.0
    assert down.vector[-1] == -1.0
    assert whole.vector.data_ptr() == down.vector.data_ptr()


def test_gradients_accumulate_in_the_arena() -> None:
    module = Tied()
    _, _, up = flat(module)
    x = torch.randn(5, 4)
    expected = torch.cat(
        [g.flatten() for g in torch.autograd.grad(module(x).sum(), [module.first.weight, module.first.bias])]
    )
    module(x).sum().backward()
    torch.testing.assert_close(up.vector, expected)
    module(x).sum().backward()
    torch.testing.assert_close(up.vector, 2 * expected)
    assert module.frozen.weight.grad is None
    up.vector.zero_()
    assert module.first.weight.grad is not None and not module.first.weight.grad.any()


def test_batch_norm_writes_its_statistics_into_the_arena() -> None:
    module = normalised()
    whole, _, up = flat(module)
    module(torch.randn(16, 4) + 3.0)
    assert torch.equal(torch.cat([module[1].running_mean, module[1].running_var]), up.buffers)
    assert up.buffers[:3].any()
    assert up.counters.tolist() == [0]
    whole.gather(up.counters)
    assert up.counters.tolist() == [1]


def test_load_takes_over_weights_buffers_and_counters() -> None:
    giver, taker = normalised(), normalised()
    for _ in range(3):
        giver(torch.randn(8, 4))
    source, down, up = flat(giver)
    source.gather(up.counters)
    target, _, _ = flat(taker)
    target.load(down.vector, up.buffers, up.counters)
    for name, value in giver.state_dict().items():
        assert torch.equal(taker.state_dict()[name], value), name
    assert taker[1].num_batches_tracked.item() == 3


def test_integer_buffers_of_other_types_come_back_as_they_were() -> None:
    module = nn.Linear(2, 2)
    module.register_buffer("mask", torch.tensor([True, False, True]))
    module.register_buffer("steps", torch.tensor([[3], [-4]], dtype=torch.int16))
    whole, down, up = flat(module)
    whole.gather(up.counters)
    assert up.counters.tolist() == [1, 0, 1, 3, -4]
    whole.load(down.vector, up.buffers, torch.tensor([0, 1, 1, 9, 8]))
    assert module.mask.tolist() == [False, True, True] and module.mask.dtype == torch.bool
    assert module.steps.tolist() == [[9], [8]] and module.steps.dtype == torch.int16


def test_without_gradient_memory_none_is_given() -> None:
    module = nn.Linear(2, 2)
    layout = Layout.of(module)
    Flat(module, layout, torch.zeros(6), torch.zeros(0))
    assert module.weight.grad is None


# The arena.

SHAPES = st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), min_size=1, max_size=5)


class Made(nn.Module):
    """A module of given shapes."""

    def __init__(self, parameters: list[tuple[int, ...]], buffers: list[tuple[int, ...]], counters: int) -> None:
        super().__init__()
        for k, shape in enumerate(parameters):
            self.register_parameter(f"p{k}", nn.Parameter(torch.randn(shape)))
        for k, shape in enumerate(buffers):
            self.register_buffer(f"b{k}", torch.randn(shape))
        for k in range(counters):
            self.register_buffer(f"c{k}", torch.tensor(k * 10**12))


@settings(max_examples=60, deadline=None)
@given(SHAPES, SHAPES, st.integers(0, 3), st.integers(0, 4))
def test_any_module_goes_through_the_bytes_of_an_arena(
    parameters: list[tuple[int, ...]], buffers: list[tuple[int, ...]], counters: int, sums: int
) -> None:
    source, target = (Made(parameters, buffers, counters) for _ in range(2))
    layout = Layout.of(source)
    sent = arena(layout, sums)
    out = Flat(source, layout, sent.vector, sent.buffers)
    out.gather(sent.counters)
    sent.sums.copy_(torch.arange(sums) + 0.25)
    received = Arena(layout, sums, sent.storage.clone())
    mine = arena(layout, sums)
    Flat(target, layout, mine.vector, mine.buffers).load(received.vector, received.buffers, received.counters)
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name
    assert received.sums.tolist() == [k + 0.25 for k in range(sums)]


@settings(max_examples=60, deadline=None)
@given(SHAPES, SHAPES, st.integers(0, 3), st.integers(0, 4))
def test_sections_are_aligned_and_do_not_overlap(
    parameters: list[tuple[int, ...]], buffers: list[tuple[int, ...]], counters: int, sums: int
) -> None:
    layout = Layout.of(Made(parameters, buffers, counters))
    whole = arena(layout, sums)
    views = [view for view in (whole.sums, whole.counters, whole.buffers, whole.vector) if view.numel()]
    start = whole.storage.data_ptr()
    places = [(view.data_ptr() - start, view.data_ptr() - start + view.nbytes) for view in views]
    assert ALIGNMENT == 64 and all(begin % 64 == 0 for begin, _ in places)
    ends = [HEADER_BYTES, *(end for _, end in places)]
    assert all(begin >= end for (begin, _), end in zip(places, ends, strict=False))
    assert ends[-1] <= len(whole.storage) == Arena.nbytes(layout, sums)
    assert len(whole.storage) % ALIGNMENT == 0


class Reassigning(nn.Module):
    """Puts a new tensor in a buffer's place at each call, as some modules do."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mean = 0.5 * self.mean + x.mean(0)
        self.calls = self.calls + 1
        return x * self.weight


def test_a_buffer_that_the_module_replaces_is_gathered_and_gets_its_place_back() -> None:
    module = Reassigning()
    whole, _, up = flat(module)
    for _ in range(2):
        module(torch.ones(4, 2))
    whole.gather(up.counters)
    assert up.buffers.tolist() == [1.5, 1.5] and up.counters.tolist() == [2]
    up.buffers.fill_(8.0)
    whole.write_counters(torch.tensor([5]))
    module(torch.ones(4, 2))
    whole.gather(up.counters)
    assert up.buffers.tolist() == [5.0, 5.0] and up.counters.tolist() == [6]


def test_copy_body_leaves_the_header() -> None:
    layout = Layout.of(normalised())
    source, target = arena(layout), arena(layout)
    source.storage.fill_(1)
    target.copy_body(source)
    assert not target.header.any()
    assert torch.equal(target.storage[HEADER_BYTES:], source.storage[HEADER_BYTES:])
