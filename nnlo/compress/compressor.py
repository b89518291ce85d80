"""A sender's codec with error feedback: what was left out of one vector is added to the next.

Seide et al. 2014; Karimireddy et al. 2019 (arXiv 1901.09847), algorithm 1. With residual e:

    p = v + e;  send C(p);  e = p - C(p)

so that the sum of what was sent and of what is still to come is the sum of the vectors. Where the compressed
form is summed on its way, rank i with the share b_i of the whole has

    p_i = b_i v_i + e_i;  all get C(sum p_i), which is the sum of C_i(p_i);  e_i = p_i - C_i(p_i)

so that the same holds of the sums over all ranks, whatever the shares of each round.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from nnlo.compress.base import Codec, Reduction, State
from nnlo.flat import finite


class Compressor:
    """Encodes one sender's vectors; `state` holds the residual (None without feedback) and the codec's own.

    `tells`: whether `sent` is to be what the other side reads from the last message, shape (n,), which takes another
    pass.
    """

    def __init__(self, codec: Codec[Any], feedback: bool, seed: int, tells: bool = False) -> None:
        self.codec = codec
        self._tells, self._seed = feedback or tells, seed
        self.sent = torch.zeros(codec.layout.numel if self._tells else 0, dtype=codec.layout.dtype)
        residual = torch.zeros_like(self.sent) if feedback else None
        self.state: State = {"residual": residual, "codec": codec.init(seed, feedback), "unit": 1.0, "waits": False}

    def encode(self, vector: Tensor, memory: Tensor) -> bool:
        """Write `vector`, which is finite, into `memory`; whether there is anything to send.

        There is not where the vector and the residual add up to more than the type holds: both are dropped then.
        """
        residual = self._left
        if residual is not None:
            vector = residual.add_(vector)
            if not finite(vector):
                residual.zero_()
                return False
        self.codec.encode(vector, memory, self.state["codec"])
        if self._tells:
            self.codec.decode(memory, self.sent)
        if residual is not None:
            residual.sub_(self.sent)
        return True

    def reduce(self, vector: Tensor, share: float) -> Iterator[Tensor]:
        """Overwrite `vector` with the compressed mean over all ranks of theirs, each weighted by its `share`.

        Each tensor that is given out has become the sum over all ranks, in place, when the next one is asked for.
        `share` is this rank's part of the whole; those of all ranks add up to 1. Raises TypeError for a codec that
        is no Reduction.
        """
        if not isinstance(self.codec, Reduction):
            raise TypeError(f"{type(self.codec).__name__} cannot be summed on its way")
        vector.mul_(share)
        residual = self._left
        if residual is None:
            yield from self.codec.reduce(vector, None, self.state["codec"])
            return
        vector.copy_(residual.add_(vector))
        yield from self.codec.reduce(vector, self.sent, self.state["codec"])
        residual.sub_(self.sent)

    def reset(self) -> None:
        """Begin anew: what has been kept may not be finite."""
        residual = self.state["residual"]
        if residual is not None:
            residual.zero_()
        self.state["codec"] = self.codec.init(self._seed, residual is not None)

    def scale(self, factor: float) -> None:
        """Vectors count `factor` times as much as at first from now on; what is left keeps its worth.

        Where they count nothing, what is left waits until they do.
        """
        self.state["waits"] = factor == 0
        if factor > 0 and self.state["residual"] is not None:
            self.state["residual"].mul_(self.state["unit"] / factor)
            self.state["unit"] = factor

    @property
    def _left(self) -> Tensor | None:
        """What is to be added to the next vector."""
        residual: Tensor | None = self.state["residual"]
        return None if self.state["waits"] else residual
