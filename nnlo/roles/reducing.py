"""How the updates of a collective's workers become one vector on each of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nnlo.algos import CollectiveAlgorithm, Lineage, Place, Update
from nnlo.algos.base import State
from nnlo.comm.base import Source, Transport
from nnlo.compress import Compressor, Reduction
from nnlo.flat import Layout, finite
from nnlo.roles.buckets import Buckets


class Reducing(ABC):
    """`bytes_up` and `bytes_down` are what a rank sends and gets in a round."""

    bytes_up: int
    bytes_down: int
    #: Sums that began before `reduce`, which is called once all of them are ready.
    under_way: Sequence[Source] = ()
    #: Whether one of those got values from this rank that are not finite: the round is lost for all.
    spoils = False

    def begin(self, samples: int) -> None:  # noqa: B027
        """A gradient of so many samples is about to be computed."""

    def counts(self, vector: Tensor, buffers: Tensor) -> bool:
        """Whether this rank's vector, which is complete now and changed no more, and its float buffers are finite."""
        return finite(vector) and finite(buffers)

    def idle(self) -> None:  # noqa: B027
        """This rank has no batch in this round."""

    @abstractmethod
    async def reduce(self, vector: Tensor, samples: Sequence[int], version: int) -> Tensor:
        """What becomes of all ranks' vectors, shape (n,); `vector` is overwritten.

        samples: those behind each rank's, not all 0; a vector with none does not count.
        """

    def dropped(self) -> None:  # noqa: B027
        """What became of all vectors is not finite."""

    def scale(self, factor: float) -> None:  # noqa: B027
        """Vectors count `factor` times as much as at first from now on."""

    def close(self) -> None:  # noqa: B027
        """Leave the module as it was."""

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What this rank keeps from one round to the next: for itself, and what is the same on all."""
        return {}, {}

    def load_state_dict(self, own: dict[str, Any], alike: dict[str, Any]) -> None:  # noqa: B027
        """Go on from there; `own` is empty on a rank that begins anew."""


class Averaged(Reducing):
    """The mean by samples, summed on its way."""

    def __init__(self, transport: Transport, layout: Layout) -> None:
        self._transport = transport
        share = (transport.size - 1) / transport.size
        self.bytes_up = self.bytes_down = round(2 * share * layout.numel * layout.dtype.itemsize)

    async def reduce(self, vector: Tensor, samples: Sequence[int], version: int) -> Tensor:
        own = samples[self._transport.rank]
        if own:
            vector.mul_(own)
        else:
            vector.zero_()
        await whole(self._transport, vector)
        return vector.div_(sum(samples))


class Overlapped(Averaged):
    """The same mean, of a gradient whose parts begin to be summed while its backward pass still runs."""

    def __init__(self, transport: Transport, layout: Layout, buckets: Buckets) -> None:
        super().__init__(transport, layout)
        self._buckets = buckets

    def begin(self, samples: int) -> None:
        self._buckets.begin(samples)

    def counts(self, vector: Tensor, buffers: Tensor) -> bool:
        self.under_way = self._buckets.finish()
        self.spoils = self._buckets.spoils
        return self._buckets.good

    def idle(self) -> None:
        self._buckets.begin(0)
        self.under_way, self.spoils = self._buckets.finish(), False

    async def reduce(self, vector: Tensor, samples: Sequence[int], version: int) -> Tensor:
        return vector.div_(sum(samples))

    def close(self) -> None:
        self._buckets.close()


class Gathered(Reducing):
    """Every rank gets every vector, encoded where there is a codec, and merges them as the algorithm does."""

    def __init__(
        self,
        transport: Transport,
        algorithm: CollectiveAlgorithm,
        layout: Layout,
        place: Place,
        x: Tensor,
        state: State,
    ) -> None:
        self._transport, self._algorithm, self._x, self._state = transport, algorithm, x, state
        codec = algorithm.wire(layout)
        self._compressor = Compressor(codec, algorithm.feedback, place.stream) if codec else None
        nbytes = codec.nbytes if codec else layout.numel * layout.dtype.itemsize
        self._mine = transport.storage(nbytes)
        self._everyone = transport.storage(nbytes * transport.size).view(transport.size, nbytes)
        self._vectors = [torch.zeros(layout.numel, dtype=layout.dtype) for _ in range(transport.size)]
        self.bytes_up = self.bytes_down = (transport.size - 1) * nbytes

    def counts(self, vector: Tensor, buffers: Tensor) -> bool:
        return super().counts(vector, buffers) and self._pack(vector)

    async def reduce(self, vector: Tensor, samples: Sequence[int], version: int) -> Tensor:
        source = self._transport.gather_all(self._mine, self._everyone)
        await self._transport.wait([source])
        updates = [
            Update(self._unpack(rank), Lineage(rank + 1, version, 0, count))
            for rank, count in enumerate(samples)
            if count
        ]
        return self._algorithm.merge(updates, self._x, self._state)

    def _pack(self, vector: Tensor) -> bool:
        if self._compressor:
            return self._compressor.encode(vector, self._mine)
        self._mine.copy_(vector.view(torch.uint8))
        return True

    def _unpack(self, rank: int) -> Tensor:
        out = self._vectors[rank]
        if self._compressor:
            self._compressor.codec.decode(self._everyone[rank].clone(), out)  # a row may begin at any byte
        else:
            out.view(torch.uint8).copy_(self._everyone[rank])
        return out

    def scale(self, factor: float) -> None:
        if self._compressor:
            self._compressor.scale(factor)

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return dict(self._compressor.state) if self._compressor else {}, {}

    def load_state_dict(self, own: dict[str, Any], alike: dict[str, Any]) -> None:
        if self._compressor:
            self._compressor.state.update(own)


class Compressed(Reducing):
    """The mean in a compressed form that is summed on its way."""

    def __init__(self, transport: Transport, codec: Reduction[Any], feedback: bool, place: Place) -> None:
        self._transport, self._compressor = transport, Compressor(codec, feedback, place.stream)
        share = (transport.size - 1) / transport.size
        self.bytes_up = self.bytes_down = round(2 * share * codec.nbytes)

    async def reduce(self, vector: Tensor, samples: Sequence[int], version: int) -> Tensor:
        share = samples[self._transport.rank] / sum(samples)
        if not share:
            vector.zero_()
        for part in self._compressor.reduce(vector, share):
            await whole(self._transport, part)
        return vector

    def dropped(self) -> None:
        self._compressor.reset()

    def scale(self, factor: float) -> None:
        self._compressor.scale(factor)

    def state_dict(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """All ranks' codecs go by the same."""
        own = dict(self._compressor.state)
        return own, {"codec": own.pop("codec")}

    def load_state_dict(self, own: dict[str, Any], alike: dict[str, Any]) -> None:
        self._compressor.state.update({**alike, **own})


def reducing(
    transport: Transport,
    algorithm: CollectiveAlgorithm,
    layout: Layout,
    place: Place,
    x: Tensor,
    state: State,
    buckets: Buckets | None,
) -> Reducing:
    """How this algorithm's updates are reduced among the ranks of `transport`; `buckets`: those of its gradient."""
    if buckets:
        return Overlapped(transport, layout, buckets)
    codec = algorithm.wire(layout)
    if isinstance(codec, Reduction):
        return Compressed(transport, codec, algorithm.feedback, place)
    if codec is None and not algorithm.gathers:
        return Averaged(transport, layout)
    return Gathered(transport, algorithm, layout, place, x, state)


async def whole(transport: Transport, memory: Tensor) -> None:
    """The sum over all ranks, in place."""
    source = transport.allreduce(memory)
    if not source.ready:
        await transport.wait([source])
