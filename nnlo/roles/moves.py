"""Replies that say by how much a worker's weights are to move, as a codec has it.

With centre w, and v_i the weights that worker i has, kept at both ends (EF21-P; Gruntkowska, Tyurin, Richtarik, "EF21-P
and Friends", ICML 2023):

    send q = C(w - v_i);  v_i += q

What the codec leaves out is still in w - v_i the next time, so that nothing is lost, and there is no residual to keep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnlo.comm.base import Channel
from nnlo.comm.tables import Opening
from nnlo.compress import Codec
from nnlo.flat import Arena
from nnlo.roles.centre import Ring
from nnlo.roles.wires import Wires

DOWNWARDS = 1  # random streams of the way down are others than those of workers


class Moves:
    """What each worker has, by its peer id; `storage` gives memory to send from."""

    def __init__(self, storage: Callable[[int], Tensor], wires: Wires, codec: Codec[Any], seed: int) -> None:
        self._codec, self._seed = codec, seed
        self._replies = Ring(lambda: wires.reply(storage(wires.reply_bytes)))
        self._move = torch.zeros(codec.layout.numel, dtype=codec.layout.dtype)
        self._weights: dict[int, Tensor] = {}
        self._states: dict[int, dict[str, Any]] = {}
        self._restored: set[int] = set()

    def begin(self, worker: int, weights: Tensor) -> Tensor:
        """A worker has been sent the centre's weights as they are, shape (n,); what it has now."""
        if worker in self._restored:
            self._restored.remove(worker)
            return self._weights[worker]
        if worker in self._weights:
            return self._weights[worker].copy_(weights)
        stream = np.random.SeedSequence([self._seed, worker, DOWNWARDS]).generate_state(1, np.uint64)[0]
        self._weights[worker], self._states[worker] = weights.clone(), self._codec.init(int(stream >> 1), feedback=True)
        return self._weights[worker]

    def state_dict(self, numbers: Mapping[int, int]) -> dict[int, Any]:
        """What workers have, by their numbers; `numbers` are those of peer ids."""
        return {numbers[worker]: [self._weights[worker], self._states[worker]] for worker in self._weights}

    def load_state_dict(self, state: dict[int, Any], workers: Mapping[int, int]) -> None:
        """These workers have what they had: that they are sent the centre's weights once more is of no effect.

        workers: peer ids by number.
        """
        for number in workers.keys() & state.keys():
            self._weights[workers[number]], self._states[workers[number]] = state[number]
            self._restored.add(workers[number])

    def send(self, worker: int, channel: Channel, header: Opening, centre: Arena) -> Tensor:
        """Bring a worker nearer to the centre's weights, buffers as they are; what it has then, shape (n,)."""
        self._restored.discard(worker)
        had, move, pinned = self._weights[worker], self._move, self._replies.fresh()
        torch.sub(centre.vector, had, out=move)
        self._codec.encode(move, pinned.arena.payload, self._states[worker])
        self._codec.decode(pinned.arena.payload, move)
        had.add_(move)
        pinned.arena.copy_buffers(centre)
        self._replies.back(pinned)
        self._replies.send(channel, header, pinned)
        return had


def moves_of(storage: Callable[[int], Tensor], wires: Wires, seed: int) -> Moves | None:
    """None where the replies of these wires say something else."""
    return Moves(storage, wires, wires.down, seed) if wires.down and wires.replies_move else None
