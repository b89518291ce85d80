"""Low rank: each matrix as the product of two thin ones, found by one step of power iteration.

Vogels et al. 2019 (arXiv 1905.13727), PowerSGD. For a tensor of two or more dimensions as matrix A, shape (p, q),
and the factor Q, shape (q, r), of the vector before:

    P = sum A_i Q;  P <- orthonormal columns of P;  Q = sum A_i^T P;  C(A) = P Q^T

Both sums run over all ranks, so that what is compressed is the sum itself. Other tensors travel as they are,
with the first sum. The columns of Q are made orthonormal too before they are used, which changes no C(A) but
keeps P within the range of the type.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor

from nnlo.compress.base import Reduction, State
from nnlo.errors import OptionsError
from nnlo.flat import Layout, Slot
from nnlo.options import Options, option

#: Of the first Q, which is the same on all ranks.
SEED = 20190531


@dataclass(frozen=True, kw_only=True)
class PowersgdOptions(Options):
    """Low rank."""

    rank: int = option(2, help="columns of the two factors", at_least=1)


class Powersgd(Reduction[PowersgdOptions]):
    """r (p + q) numbers of the layout's type a matrix, and the other tensors as they are.

    The first sum is of P and the other tensors, the second of Q; as the message of one sender they lie one after
    the other.
    """

    Settings = PowersgdOptions

    def __init__(self, settings: PowersgdOptions, layout: Layout) -> None:
        super().__init__(settings, layout)
        self._matrices = [slot for slot in layout.parameters if is_matrix(slot)]
        self._others = [slot for slot in layout.parameters if not is_matrix(slot)]
        check_rank(settings.rank, self._matrices)
        self._first = torch.zeros(
            settings.rank * sum(slot.shape[0] for slot in self._matrices) + sum(slot.size for slot in self._others),
            dtype=layout.dtype,
        )
        self._second_numel = settings.rank * sum(width(slot) for slot in self._matrices)
        self.nbytes = (len(self._first) + self._second_numel) * layout.dtype.itemsize

    def init(self, seed: int, feedback: bool = False) -> State:
        """Q, the same on all ranks: it does not come from the sender's own `seed`."""
        generator = torch.Generator().manual_seed(SEED)
        return {"q": torch.randn(self._second_numel, generator=generator, dtype=self.layout.dtype)}

    def reduce(self, vector: Tensor, own: Tensor | None, state: State) -> Iterator[Tensor]:
        first, second = self._first, state["q"]
        for a, p, q in self.factors(vector, first, second):
            torch.mm(a, orthonormal(q), out=p)
        for part, dense in self.others(vector, first):
            dense.copy_(part)
        yield first
        for a, p, q in self.factors(vector, first, second):
            torch.mm(a.T, p.copy_(orthonormal(p)), out=q)
        if own is not None:
            own.copy_(vector)
            self.multiply(first, second, own)
        yield second
        self.multiply(first, second, vector)
        for part, dense in self.others(vector, first):
            part.copy_(dense)

    def encode(self, vector: Tensor, memory: Tensor, state: State) -> None:
        for part, place in zip(self.reduce(vector.clone(), None, state), self.halves(memory), strict=True):
            place.copy_(part)

    def decode(self, memory: Tensor, out: Tensor) -> None:
        first, second = self.halves(memory)
        for a, p, q in self.factors(out, first, second):
            torch.mm(orthonormal(p), q.T, out=a)
        for part, dense in self.others(out, first):
            part.copy_(dense)

    def halves(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """What is summed first and second in the message of one sender."""
        values, end = memory.view(self.layout.dtype), len(self._first)
        return values[:end], values[end:]

    def multiply(self, first: Tensor, second: Tensor, out: Tensor) -> None:
        """The matrices of `out` become P Q^T."""
        for a, p, q in self.factors(out, first, second):
            torch.mm(p, q.T, out=a)

    def factors(self, vector: Tensor, first: Tensor, second: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """A, P and Q of each matrix, of shapes (p, q), (p, r) and (q, r)."""
        rank, left, right = self.settings.rank, 0, 0
        for slot in self._matrices:
            rows, columns = slot.shape[0], width(slot)
            yield (
                slot.view(vector).view(rows, columns),
                first[left : left + rows * rank].view(rows, rank),
                second[right : right + columns * rank].view(columns, rank),
            )
            left, right = left + rows * rank, right + columns * rank

    def others(self, vector: Tensor, first: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Each other tensor, shape (n,), and its place in the first sum."""
        start = self.settings.rank * sum(slot.shape[0] for slot in self._matrices)
        for slot in self._others:
            yield slot.view(vector).view(-1), first[start : start + slot.size].view(-1)
            start += slot.size


def is_matrix(slot: Slot) -> bool:
    return len(slot.shape) >= 2 and slot.size > 0


def width(slot: Slot) -> int:
    """The columns of a tensor that is seen as a matrix with as many rows as its first dimension."""
    return slot.size // slot.shape[0]


def check_rank(rank: int, matrices: Sequence[Slot]) -> None:
    """Raises OptionsError where a matrix has a smaller dimension."""
    dimensions = [(min(slot.shape[0], width(slot)), slot) for slot in matrices]
    most, slot = min(dimensions, key=itemgetter(0), default=(rank, None))
    if slot is not None and rank > most:
        shape = " x ".join(map(str, slot.shape))
        raise OptionsError(f"rank {rank} is too large for '{slot.name}' of shape {shape}: the largest is rank={most}")


def orthonormal(columns: Tensor) -> Tensor:
    """Orthonormal columns that span what `columns`, shape (p, r) with r <= p, span, and more where those depend."""
    basis: Tensor = torch.linalg.qr(columns).Q
    return basis
