"""One step of the centre: updates of workers go into its weights and buffers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnlo.algos import Lineage, Place, ServerAlgorithm, Update
from nnlo.comm.base import Channel
from nnlo.comm.messages import Flag, Header
from nnlo.comm.tables import Opening
from nnlo.flat import Arena
from nnlo.roles.centre import Centre, Pinned, Ring
from nnlo.roles.kept import kept, put_back
from nnlo.roles.moves import moves_of
from nnlo.roles.wires import Wires


class Arrived(NamedTuple):
    """An update that a worker sent, and the sums of loss and metrics behind it."""

    lineage: Lineage
    header: Header
    arena: Arena
    sums: list[float]

    @property
    def peer(self) -> int:
        return self.lineage.sender

    @property
    def finite(self) -> bool:
        return not self.header.flags & Flag.NON_FINITE


class Stepper:
    """Applies updates to the centre's weights; `version` counts the steps. `storage` gives memory to send from.

    `common`: the weights' memory where the workers have it too, None otherwise.
    """

    def __init__(
        self, storage: Callable[[int], Tensor], wires: Wires, algorithm: ServerAlgorithm, place: Place,
        common: Tensor | None = None,
    ) -> None:  # fmt: skip
        made = storage if common is None else lambda nbytes: common
        self.centre, self.version = Centre(lambda: wires.weights(made(wires.weights_bytes))), 0
        self.replies = Ring(lambda: wires.reply(storage(wires.reply_bytes)))
        self._wires, self._algorithm = wires, algorithm
        self._decoded: list[Tensor] = []
        self.moves = moves_of(storage, wires, place.seed)
        self._joint_reply = wires.down if wires.down and not wires.replies_move else None
        self._reply_state = self._joint_reply.init(place.seed) if self._joint_reply else None
        self.state = algorithm.init_master(self.centre.arena.vector, place)
        self.factor = 1.0

    @property
    def rate(self) -> float:
        """The learning rate of the last step or, where the workers have one of their own, theirs."""
        if not math.isnan(self._algorithm.rate):
            return self._algorithm.rate * self.factor
        optimizer = self.state.get("optimizer")
        return optimizer.lr if optimizer else math.nan

    def scale(self, factor: float) -> None:
        """The schedule's factor of the learning rate from now on."""
        if factor != self.factor:
            self.factor = factor
            self._algorithm.scale(factor, self.state)

    def lineage(self, peer: int, header: Header) -> Lineage:
        """Where an update comes from that would be applied now."""
        return Lineage(peer, header.version, self.version - header.version, header.samples)

    def accepts(self, lineage: Lineage) -> bool:
        """Whether the algorithm lets this update be applied now."""
        return self._algorithm.accepts(lineage, self.state)

    def step(self, arrived: Sequence[Arrived], workers: int, owed: int) -> Pinned | None:
        """One step from these updates, of so many `workers` in all.

        What so many senders are to be answered: None for the centre's weights.
        """
        kept = self.centre.freeze(owed) if self._algorithm.answers_before else None
        arena = self.centre.writable()
        lineages = [one.lineage for one in arrived]
        parts = messages_of(arrived)
        updates = [Update(self._vector(i, one[0]), joint(one), len(one)) for i, one in enumerate(parts)]
        merged = self._algorithm.merge(updates, arena.vector, self.state)
        reply = self._algorithm.step(arena.vector, merged, lineages, self.state)
        merge_buffers(arena, parts, 1.0 if self._algorithm.synchronous else len(arrived) / workers)
        self.version += 1
        return self._encoded(reply, arena, owed) if self._joint_reply else kept

    def _vector(self, place: int, one: Arrived) -> Tensor:
        """What the update says; decoded into memory of its own where it came encoded."""
        if self._wires.up is None:
            return one.arena.vector
        if place == len(self._decoded):
            self._decoded.append(torch.empty_like(self.centre.arena.vector))
        self._wires.up.decode(one.arena.payload, self._decoded[place])
        return self._decoded[place]

    def _encoded(self, reply: Tensor, arena: Arena, owed: int) -> Pinned:
        pinned = self.replies.fresh()
        pinned.owed = owed
        assert self._joint_reply is not None and self._reply_state is not None
        self._joint_reply.encode(reply, pinned.arena.payload, self._reply_state)
        pinned.arena.copy_buffers(arena)
        self.replies.back(pinned)
        return pinned

    def send(self, channel: Channel, header: Opening, pinned: Pinned) -> None:
        """Send what a step left for its senders, from where it lies."""
        (self.replies if self._joint_reply else self.centre).send(channel, header, pinned)

    def send_centre(self, channel: Channel, header: Opening, peers: Collection[int], whole: bool) -> None:
        """Send the centre's weights to these workers: whole to start from, or as a reply."""
        if whole or not self.moves:
            self.centre.send_current(channel, header)
        arena, moves = self.centre.arena, self.moves
        for peer in peers:
            weights = arena.vector
            if moves:
                weights = moves.begin(peer, weights) if whole else moves.send(peer, channel, header, arena)
            self._algorithm.answered(peer, weights, self.state)

    def state_dict(self, numbers: Mapping[int, int]) -> dict[str, Any]:
        """numbers: those of workers, by peer id."""
        arena = self.centre.arena
        return {
            "vector": arena.vector, "buffers": arena.buffers, "counters": arena.counters, "version": self.version,
            "factor": self.factor, "algorithm": kept(self._algorithm, self.state), "replies": self._reply_state,
            "moves": self.moves.state_dict(numbers) if self.moves and not self._algorithm.pipelined else {},
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any], workers: Mapping[int, int]) -> None:
        """Go on from there, before any message was sent; `workers`: peer ids by number of those that go on as well."""
        arena = self.centre.arena
        for name in ("vector", "buffers", "counters"):
            getattr(arena, name).copy_(state[name])
        self.version, self.factor, self._reply_state = state["version"], state["factor"], state["replies"]
        put_back(self.state, state["algorithm"])
        if self.moves:
            self.moves.load_state_dict(state["moves"], workers)

    def report(self) -> dict[str, Any]:
        """The algorithm's figures of the epoch that ends now."""
        return self._algorithm.report(self.state)


def messages_of(arrived: Sequence[Arrived]) -> list[list[Arrived]]:
    """The same by the messages that they came with: one each, or several in one that a master combined."""
    if len(arrived) == 1:
        return [list(arrived)]
    found: dict[int, list[Arrived]] = {}
    for one in arrived:
        found.setdefault(one.arena.storage.data_ptr(), []).append(one)
    return list(found.values())


def joint(together: Sequence[Arrived]) -> Lineage:
    """That of a combined update: the first's, with the samples of all."""
    first = together[0].lineage
    return first if len(together) == 1 else first._replace(samples=sum(one.lineage.samples for one in together))


def merge_buffers(arena: Arena, parts: Sequence[Sequence[Arrived]], weight: float) -> None:
    """Float buffers move by `weight` towards the mean of the senders', by samples.

    So a synchronous step takes that mean, and an asynchronous one counts each sender as one of M.
    Integer buffers (BatchNorm's batch counter) become the largest.
    """
    if arena.buffers.numel():
        counts = [sum(one.header.samples for one in part) for part in parts]
        means = [part[0].arena.buffers * (count / sum(counts)) for part, count in zip(parts, counts, strict=True)]
        arena.buffers.lerp_(torch.stack(means).sum(0) if len(means) > 1 else means[0], weight)
    for part in parts if arena.counters.numel() else ():
        arena.counters.copy_(arena.counters.maximum(part[0].arena.counters))
