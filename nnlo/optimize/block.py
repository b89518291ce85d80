"""A rank of a block: it trains what the coordinator gives to its block; the first rank of the block talks to that."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from nnlo.comm.agree import share
from nnlo.comm.base import Transport
from nnlo.errors import PeerLost
from nnlo.optimize.search import Outcome, Say, Verdict, Work
from nnlo.roles.parcels import Parcels

COORDINATOR = 0
Weights = Callable[[], bytes]


class Talk:
    """What the master of a block says to the coordinator of its trial, and hears from it."""

    def __init__(self, transport: Transport) -> None:
        self._transport, self._parcels = transport, Parcels(transport, transport.peers[COORDINATOR])
        self.last = Verdict(Say.ON)

    async def begin(self, until: int) -> None:
        """A trial begins, of which nothing was said yet."""
        self.last = Verdict(Say.ON, until)

    async def epoch(self, epoch: int, figure: float) -> Verdict:
        """Tell how the trial did in its epoch number `epoch`, from 1; what is to become of it."""
        if self.last.say is Say.ON:
            await self._send({"epoch": epoch, "until": self.last.until, "figure": figure})
            self.last = verdict_of(await self._hear("say"))
        return self.last

    async def asked(self) -> Verdict:
        """What was said meanwhile, without having been asked."""
        self._transport.progress()
        if self.last.say is Say.ON and self._parcels.listen().ready:
            self.last = verdict_of(await self._hear("say"))
        return self.last

    async def work(self) -> Mapping[str, Any] | None:
        """The next thing to do; None: the search is over."""
        told = await self._hear("work", "over")
        if "over" in told:
            await self._send({"bye": True})
        return told.get("work")

    async def end(self, outcome: Outcome, weights: Weights | None) -> None:
        """The trial ended so; `weights` makes a message of what was trained, if that is wanted."""
        await self._send({"outcome": asdict(outcome), "weights": weights is not None})
        if weights is not None and (await self._hear("show"))["show"]:
            await self._parcels.send(weights())

    async def gone(self, reason: str) -> None:
        """The block trains nothing any more."""
        await self._send({"gone": reason})

    async def _send(self, word: Mapping[str, Any]) -> None:
        await self._parcels.send(json.dumps(word).encode())

    async def _hear(self, *keys: str) -> dict[str, Any]:
        """The next word that has one of these keys: one that was under way when it lost its meaning is passed over."""
        while True:
            told: dict[str, Any] = json.loads(await self._parcels.receive_all())
            if not told.keys().isdisjoint(keys):
                return told


def verdict_of(told: Mapping[str, Any]) -> Verdict:
    return Verdict(Say(told["say"]), told["until"], told["reason"])


class Trainer(ABC):
    """Trains trials on the ranks of a block."""

    @abstractmethod
    async def train(self, group: Transport, work: Work, talk: Talk | None) -> tuple[Outcome | None, Weights | None]:
        """Train a trial on all ranks of `group`, each of which calls it; `talk` is there on the first one.

        How it ended there, and the weights where these are to be had; None on the other ranks.
        """

    async def mend(self, group: Transport) -> None:  # noqa: B027
        """A trial is over: go on without those ranks that have died. Raises PeerLost where that cannot be."""


class Block:
    """The loop of one rank of a block."""

    def __init__(self, transport: Transport, trainer: Trainer) -> None:
        self._transport, self._trainer = transport, trainer

    async def run(self, group: Transport) -> None:
        """Until the search is over. `group`: the ranks of the block."""
        talk = None
        if group.rank == 0:
            talk = Talk(self._transport)
        try:
            await self._serve(group, talk)
        except PeerLost as lost:  # what is left of a block without its master, or that cannot train, waits for the end
            if lost.peer == COORDINATOR:
                raise
            if talk:
                await talk.gone(lost.reason)

    async def _serve(self, group: Transport, talk: Talk | None) -> None:
        while (told := (await share(group, await talk.work() if talk else None))[0]) is not None:
            work = Work(**told)
            if talk:
                await talk.begin(work.until)
            outcome, weights = await self._trainer.train(group, work, talk)
            if talk and outcome:
                await talk.end(outcome, weights)
            await self._trainer.mend(group)
