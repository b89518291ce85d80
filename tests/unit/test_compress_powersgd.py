"""Low rank against the equations of PowerSGD, among one and several ranks."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from nnlo.compress import Compressor
from nnlo.compress.powersgd import Powersgd
from nnlo.errors import OptionsError
from nnlo.flat import Layout
from tests.codecs import SHAPES, codec_of, compressor_of, layout_of, random_vector, tensors, through, through_a_file

each_type = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
CLOSE = {torch.float32: 1e-4, torch.float64: 1e-11}


def reduced(ranks: Sequence[Compressor], vectors: Sequence[Tensor], shares: Sequence[float]) -> tuple[Tensor, int]:
    """What all ranks get, which must be the same, and the bytes of one rank that were summed."""
    vectors = [vector.clone() for vector in vectors]
    nbytes = 0
    for parts in zip(*(r.reduce(v, share) for r, v, share in zip(ranks, vectors, shares, strict=True)), strict=True):
        total = torch.stack(parts).sum(0)
        nbytes += total.numel() * total.itemsize
        for part in parts:
            part.copy_(total)
    assert all(torch.equal(vector, vectors[0]) for vector in vectors)
    return vectors[0], nbytes


def close(found: Tensor, expected: Tensor) -> None:
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found, expected, rtol=0, atol=scale * CLOSE[found.dtype])


def low_rank(layout: Layout, rank: int, seed: int = 0) -> Tensor:
    """A vector whose matrices have at most this rank."""
    vector = random_vector(layout, seed)
    for part in tensors(layout, vector):
        if part.dim() > 1:
            u, s, v = torch.linalg.svd(part.reshape(len(part), -1), full_matrices=False)
            part.copy_(((u[:, :rank] * s[:rank]) @ v[:rank]).view(part.shape))
    return vector


class Textbook:
    """Algorithm 1 of the paper with error feedback, in float64 on the mean gradient of all."""

    def __init__(self, layout: Layout, q: Tensor, rank: int) -> None:
        self.layout, self.q, start = layout, [], 0
        for slot in layout.parameters:
            columns = slot.size // slot.shape[0] if len(slot.shape) > 1 else 0
            self.q.append(q[start : start + columns * rank].view(columns, rank).double().clone())
            start += columns * rank
        self.error = torch.zeros(layout.numel, dtype=torch.float64)

    def step(self, mean: Tensor) -> Tensor:
        whole = mean.double() + self.error
        sent = whole.clone()
        for index, part in enumerate(tensors(self.layout, sent)):
            if part.dim() > 1:
                a = part.reshape(len(part), -1)
                p = torch.linalg.svd(a @ self.q[index], full_matrices=False)[0]
                self.q[index] = a.T @ p
                part.copy_((p @ self.q[index].T).view(part.shape))
        self.error = whole - sent
        return sent


@each_type
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_equals_the_textbook_step_by_step(rank: int, dtype: torch.dtype) -> None:
    layout = layout_of(dtype=dtype)
    compressor = compressor_of(f"powersgd:rank={rank}", layout)
    textbook = Textbook(layout, compressor.state["codec"]["q"], rank)
    for step in range(6):
        vector = random_vector(layout, step)
        found, _ = reduced([compressor], [vector], [1.0])
        close(found, textbook.step(vector).to(dtype))
    close(compressor.state["residual"], textbook.error.to(dtype))


@each_type
@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.5), (0.25, 0.5, 0.25), (0.0, 0.625, 0.375)], ids=str)
def test_several_ranks_are_one_with_the_mean(shares: tuple[float, ...], dtype: torch.dtype) -> None:
    layout = layout_of(dtype=dtype)
    ranks = [compressor_of("powersgd:rank=2", layout, seed=rank) for rank in range(len(shares))]
    alone = compressor_of("powersgd:rank=2", layout, seed=99)
    for step in range(6):
        vectors = [random_vector(layout, 10 * step + rank) for rank in range(len(shares))]
        turned = (*shares[step % len(shares) :], *shares[: step % len(shares)])
        mean = sum(share * vector for share, vector in zip(turned, vectors, strict=True))
        assert isinstance(mean, Tensor)
        close(reduced(ranks, vectors, turned)[0], reduced([alone], [mean], [1.0])[0])
    close(torch.stack([rank.state["residual"] for rank in ranks]).sum(0), alone.state["residual"])


@each_type
@pytest.mark.parametrize("ranks", [1, 3])
def test_matrices_of_low_rank_are_exact(ranks: int, dtype: torch.dtype) -> None:
    layout = layout_of([(12, 9), (5,), (8, 3, 4)], dtype)
    vector = low_rank(layout, 3)
    found, _ = reduced(
        [compressor_of("powersgd:rank=3", layout) for _ in range(ranks)], [vector] * ranks, [1 / ranks] * ranks
    )
    close(found, vector)


@each_type
def test_exact_again_after_a_round_of_zeros_and_one_of_lower_rank(dtype: torch.dtype) -> None:
    layout = layout_of([(12, 9)], dtype)
    compressor = compressor_of("powersgd:rank=3", layout, feedback=False)
    for vector in (torch.zeros(layout.numel, dtype=dtype), low_rank(layout, 1), low_rank(layout, 3)):
        for _ in range(2):
            found, _ = reduced([compressor], [vector], [1.0])
        close(found, vector)


@each_type
@pytest.mark.parametrize("rank", [1, 2])
def test_the_bytes_that_are_summed_are_those_stated(rank: int, dtype: torch.dtype) -> None:
    layout = layout_of(dtype=dtype)
    compressor = compressor_of(f"powersgd:rank={rank}", layout)
    dense = 7 + 1 + 1
    expected = dtype.itemsize * (rank * ((6 + 5) + (3 + 8) + (4 + 9)) + dense)
    assert compressor.codec.nbytes == expected
    assert reduced([compressor], [random_vector(layout)], [1.0])[1] == expected


def test_other_tensors_are_the_mean_and_leave_nothing() -> None:
    layout = layout_of([(4, 3), (5,), ()])
    ranks = [compressor_of("powersgd:rank=1", layout) for _ in range(2)]
    vectors = [torch.arange(18.0), 3 * torch.arange(18.0)]
    found, _ = reduced(ranks, vectors, [0.5, 0.5])
    assert torch.equal(found[12:], 2 * torch.arange(18.0)[12:])
    assert all((rank.state["residual"][12:] == 0).all() and rank.state["residual"].any() for rank in ranks)


@each_type
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.75, 0.25)], ids=str)
def test_what_was_sent_and_what_is_left_is_all_there_was(shares: tuple[float, ...], dtype: torch.dtype) -> None:
    layout = layout_of(dtype=dtype)
    ranks = [compressor_of("powersgd:rank=1", layout) for _ in shares]
    given, got = torch.zeros(layout.numel, dtype=dtype), torch.zeros(layout.numel, dtype=dtype)
    for step in range(10):
        vectors = [random_vector(layout, 10 * step + rank) for rank in range(2)]
        turned = shares[:: 1 - 2 * (step % 2)]
        given += sum(share * vector for share, vector in zip(turned, vectors, strict=True))
        got += reduced(ranks, vectors, turned)[0]
    close(got + sum(rank.state["residual"] for rank in ranks), given)


def test_without_feedback_nothing_is_kept() -> None:
    layout = layout_of()
    compressor = compressor_of("powersgd:rank=1", layout, feedback=False)
    first, _ = reduced([compressor], [random_vector(layout)], [1.0])
    assert compressor.state["residual"] is None
    fresh = compressor_of("powersgd:rank=1", layout, feedback=False)
    assert torch.equal(reduced([fresh], [random_vector(layout)], [1.0])[0], first)


def test_the_power_iteration_goes_on_from_vector_to_vector() -> None:
    layout = layout_of([(30, 20)])
    compressor, vector = compressor_of("powersgd:rank=2", layout, feedback=False), random_vector(layout)
    errors = [(reduced([compressor], [vector], [1.0])[0] - vector).norm().item() for _ in range(60)]
    best = (low_rank(layout, 2) - vector).norm().item()
    assert errors[0] > 1.05 * best and errors[-1] == pytest.approx(best, rel=1e-3)


@each_type
def test_as_the_message_of_one_sender_it_is_the_reduction_of_one_rank(dtype: torch.dtype) -> None:
    layout = layout_of(dtype=dtype)
    sender, rank = codec_of("powersgd:rank=2", layout), compressor_of("powersgd:rank=2", layout, feedback=False)
    state = sender.init(0)
    for step in range(3):
        vector = random_vector(layout, step)
        close(through(sender, vector, state), reduced([rank], [vector], [1.0])[0])


def test_goes_on_from_a_saved_state() -> None:
    layout = layout_of()
    whole, first, second = (compressor_of("powersgd:rank=2", layout) for _ in range(3))
    for step in range(3):
        for compressor in (whole, first):
            reduced([compressor], [random_vector(layout, step)], [1.0])
    second.state = through_a_file(first.state)
    for step in range(3, 6):
        vector = random_vector(layout, step)
        assert torch.equal(reduced([second], [vector], [1.0])[0], reduced([whole], [vector], [1.0])[0])


def test_all_ranks_begin_with_the_same_factor() -> None:
    codec = codec_of("powersgd:rank=2", layout_of())
    assert torch.equal(codec.init(1)["q"], codec.init(2)["q"])


@pytest.mark.parametrize(
    ("shapes", "rank", "name", "most"),
    [(SHAPES, 4, "'1' of shape 3 x 2 x 2 x 2", 3), (((6, 5), (9, 1)), 2, "'1' of shape 9 x 1", 1)],
    ids=str,
)
def test_a_rank_above_the_smallest_dimension_is_refused(
    shapes: tuple[tuple[int, ...], ...], rank: int, name: str, most: int
) -> None:
    layout = layout_of(shapes)
    with pytest.raises(OptionsError) as caught:
        codec_of(f"powersgd:rank={rank}", layout)
    assert str(caught.value) == f"--compress powersgd: rank {rank} is too large for {name}: the largest is rank={most}"
    codec_of(f"powersgd:rank={most}", layout)


def test_others_cannot_be_summed_on_their_way() -> None:
    layout = layout_of()
    with pytest.raises(TypeError, match="Sign cannot be summed on its way"):
        next(compressor_of("sign", layout).reduce(random_vector(layout), 1.0))
    assert isinstance(codec_of("powersgd:rank=1", layout), Powersgd)
