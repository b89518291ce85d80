"""What rank 0 does where a worker of a collective is lost: it has the others go on together.

Each of them stops and says how far it has come. None is more than one round behind another; rank 0 has taken in no
round that one of them has not been through.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nnlo.comm.base import Source
from nnlo.comm.messages import Kind
from nnlo.errors import PeerLost, ProtocolError, TrainingError
from nnlo.roles.parcels import Parcels
from nnlo.roles.shares import in_parts
from nnlo.training.checkpoint.parcel import packed, unpacked

if TYPE_CHECKING:
    from nnlo.roles.chair import Chair

State = dict[str, Any]


class ChairLosses:
    """`present` are the workers that are neither lost nor done; `stopped` say how far they have come, and wait."""

    def __init__(self, chair: Chair) -> None:
        self._chair = chair
        self.parcels = {peer: Parcels(chair.transport, peer) for peer in chair.workers}
        self.present = list(chair.workers)
        self.stopped: dict[int, State] = {}

    async def begin(self) -> None:
        """Give the first worker the weights, for all of them."""
        with suppress(PeerLost):
            await self.parcels[self._chair.workers[0]].send(packed(self._chair.weights))

    def sources(self) -> list[Source]:
        """What is ready when a worker has something to say, or is lost."""
        return [self.parcels[peer].listen() for peer in self.present if peer not in self.stopped]

    async def hear(self) -> None:
        """Take in what there is; once all who are left have stopped, have them go on."""
        for peer in list(self.present):
            if peer not in self.stopped and self.parcels[peer].listen().ready:
                await self.shows(peer)
        if self.stopped and len(self.stopped) == len(self.present):
            await self._settle()

    async def shows(self, peer: int) -> bool:
        """Whether what that worker says next is its state, which is to be received; otherwise it is taken in."""
        if peer in self.stopped or peer not in self.present:
            return False
        parcels = self.parcels[peer]
        try:
            kind = await parcels.begins()
            if kind is Kind.STATE:
                return True
            said = await parcels.receive_all()
        except PeerLost as lost:
            self.lose(peer, lost)
            return False
        if kind is Kind.STOPPED:
            self.stopped[peer] = unpacked(said, f"rank {peer}")
        elif kind is Kind.BYE:
            self.present.remove(peer)
        else:
            raise ProtocolError(f"rank 0 got {kind.name} from rank {peer}")
        return False

    async def pass_over(self, peer: int) -> None:
        """What that worker shows is of no use, since others show nothing."""
        with suppress(PeerLost):
            await self.parcels[peer].receive(lambda piece: None)

    def lose(self, peer: int, lost: PeerLost) -> None:
        """That worker is gone without a word; with nothing left to do, that is no loss."""
        chair = self._chair
        self.present.remove(peer)
        self.stopped.pop(peer, None)
        if chair.over:
            return
        why = chair.losses.note([peer], lost, len(self.present), chair.clock)
        if not self.present:
            why = why or "every worker is lost"
        if why:
            chair.failure, chair.over = TrainingError(why), True

    async def _settle(self) -> None:
        """All are where nothing happens by itself: they go on from where the furthest is."""
        chair, state = self._chair, None
        while not chair.over:
            furthest = max(self.stopped.values(), key=lambda one: int(one["rounds"]))
            await chair.catch_up(furthest["rounds"] - 1)
            try:
                state = await self._state(furthest["rounds"])
            except PeerLost as lost:
                self.lose(lost.peer, lost)
                continue
            await chair.be_at(furthest, state)
            break
        if chair.over:
            for peer in self.stopped:
                await self.parcels[peer].send(packed({"shows": False, "peers": []}))
        else:
            await self._go_on(furthest, state)
        self.stopped.clear()

    async def _state(self, furthest: int) -> State | None:
        """That of one who has been through so many rounds, if anybody needs it. Raises PeerLost."""
        chair = self._chair
        if (
            furthest >= chair.rounds
            and chair.knows(furthest)
            and all(one["rounds"] == furthest for one in self.stopped.values())
        ):
            return None
        if furthest < chair.rounds:  # none has begun
            return {**chair.weights, "alike": None}
        peer = next(peer for peer, one in self.stopped.items() if one["rounds"] == furthest)
        await self.parcels[peer].send(packed({"shows": True}))
        state: State = unpacked(await self.parcels[peer].receive_all(), f"rank {peer}")
        return state

    async def _go_on(self, furthest: State, state: State | None) -> None:
        """Tell all how."""
        chair, peers, rounds = self._chair, list(self.present), self._chair.rounds
        told = {"shows": False, "peers": peers, "rounds": rounds, "epoch": furthest["epoch"]}
        told["dealt"] = None if chair.apart else in_parts(furthest["left"], len(peers))
        for peer in peers:
            behind = self.stopped[peer]["rounds"] < rounds
            await self.parcels[peer].send(packed({**told, "state": state if behind else None}))
        chair.gather(peers)
