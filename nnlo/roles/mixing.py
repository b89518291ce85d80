"""How what a node sends gets to its neighbours, and what it hears from them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnlo.algos import GossipAlgorithm, Place, Value
from nnlo.comm.base import Transport
from nnlo.compress import Compressor
from nnlo.flat import aligned
from nnlo.roles.reducing import Reducing


class Neighbours(Reducing):
    """`values` are those of the last exchange in the order of the nodes, this node's own at place `own`."""

    def __init__(self, transport: Transport, algorithm: GossipAlgorithm, place: Place, update: Tensor) -> None:
        self._transport, self._node = transport, transport.rank
        self._mixings = algorithm.mixings(transport.size)
        codec = algorithm.wire(place.layout)
        self._compressor = Compressor(codec, False, place.stream, tells=True) if codec else None
        nbytes, node = codec.nbytes if codec else update.nbytes, self._node
        self._mine = transport.storage(aligned(nbytes)) if codec else update.view(torch.uint8)
        self._encoded = self._mine[:nbytes]
        self._neighbourhoods = [
            transport.neighbourhood(mixing.heard_by(node), mixing.hearers(node), self._mine.numel())
            for mixing in self._mixings
        ]
        heard = max(len(mixing.rows[node]) for mixing in self._mixings)
        self._decoded = [torch.zeros_like(update) for _ in range(heard if codec else 0)]
        self.bytes_up = nbytes * len(self._mixings[0].hearers(node))
        self.bytes_down = nbytes * len(self._mixings[0].heard_by(node))
        self._dtype, self._shape = place.layout.dtype, (algorithm.vectors, place.layout.numel)
        self.values: list[Value] = []
        self.own = 0

    def counts(self, vector: Tensor, buffers: Tensor) -> bool:
        """Where it does not, a codec gets nothing to encode."""
        good = super().counts(vector, buffers)
        if self._compressor:
            self._compressor.encode(vector if good else vector.zero_(), self._encoded)
        return good

    async def reduce(self, vector: Tensor, samples: Sequence[int], version: int) -> Tensor:
        """Exchange as in that round; what others sent goes into `values`."""
        number = version % len(self._mixings)
        exchange = self._neighbourhoods[number].exchange(self._mine)
        if not exchange.ready:
            await self._transport.wait([exchange])
        heard, row = iter(exchange.values()), self._mixings[number].rows[self._node]
        self.own = next(place for place, (node, _) in enumerate(row) if node == self._node)
        vectors = [
            self._sent(vector) if node == self._node else self._read(next(heard), place)
            for place, (node, _) in enumerate(row)
        ]
        self.values = [
            Value(weight, one.view(self._shape)) for (_, weight), one in zip(row, vectors, strict=True)
        ]  # fmt: skip
        return vector

    def _sent(self, vector: Tensor) -> Tensor:
        """What the others read from what this node sent."""
        return self._compressor.sent if self._compressor else vector

    def _read(self, memory: Tensor, place: int) -> Tensor:
        if not self._compressor:
            return memory.view(self._dtype)
        self._compressor.codec.decode(memory[: self._encoded.numel()], self._decoded[place])
        return self._decoded[place]

    def state_dict(self) -> tuple[dict[str, object], dict[str, object]]:
        return dict(self._compressor.state) if self._compressor else {}, {}

    def load_state_dict(self, own: dict[str, object], alike: dict[str, object]) -> None:
        if self._compressor:
            self._compressor.state.update(own)
