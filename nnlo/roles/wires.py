"""How the messages between a master and its workers are laid out: as vectors, or as a codec has it."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nnlo.algos import ServerAlgorithm
from nnlo.comm.tables import Rows
from nnlo.compress import Codec
from nnlo.flat import HEADER_BYTES, Arena, Layout


class Wires:
    """`up` and `down` are the codecs of updates and replies, None where vectors travel as they are.

    Arenas have `sums` beside the vector. The centre's weights always travel as they are. Between a head and a master
    with so many `workers` arenas have a row for each of these in the sums' stead; updates are combined ones and weights
    are for several, which are not encoded. `replies_move`: replies are differences to what their worker has.
    """

    def __init__(self, algorithm: ServerAlgorithm, layout: Layout, sums: int, workers: int = 0) -> None:
        self.rows = Rows(workers, sums) if workers else None
        self._layout, self._sums = layout, self.rows.numbers if self.rows else sums
        self.up: Codec[Any] | None = None if workers else algorithm.wire(layout)
        self.replies_move = algorithm.reply_is_move and not workers
        self._in_place = algorithm.in_place
        self.down: Codec[Any] | None = None if workers and algorithm.reply_is_move else algorithm.reply_wire(layout)

    @property
    def weights_bytes(self) -> int:
        return Arena.nbytes(self._layout, self._sums)

    @property
    def update_bytes(self) -> int:
        return Arena.nbytes(self._layout, self._sums, encoded(self.up))

    @property
    def reply_bytes(self) -> int:
        return Arena.nbytes(self._layout, self._sums, encoded(self.down))

    @property
    def told_bytes(self) -> tuple[int, int]:
        """Of the messages with the centre's weights, as they are and as a reply: no more than what says that."""
        return (HEADER_BYTES, HEADER_BYTES) if self._in_place else (self.weights_bytes, self.reply_bytes)

    @property
    def answer_bytes(self) -> int:
        """Of the larger one: a codec may take more than it is given."""
        return max(self.told_bytes)

    def weights(self, storage: Tensor) -> Arena:
        return Arena(self._layout, self._sums, storage)

    def update(self, storage: Tensor) -> Arena:
        return Arena(self._layout, self._sums, storage, encoded(self.up))

    def reply(self, storage: Tensor) -> Arena:
        return Arena(self._layout, self._sums, storage, encoded(self.down))


def encoded(codec: Codec[Any] | None) -> int | None:
    """The bytes in a vector's stead."""
    return codec.nbytes if codec else None
