"""Rank 0 of a search: gives trials to blocks that are free, hears how they do, and says which stop early."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any

from nnlo.comm.base import Source, Task, Transport
from nnlo.errors import PeerLost, TrainingError
from nnlo.logs import LOG
from nnlo.optimize.search import Outcome, Say, Search, Verdict, Work
from nnlo.optimize.trial import Parameters, Status, Trial
from nnlo.roles.parcels import Parcels
from nnlo.topology import Blocks
from nnlo.training.signals import Signals

#: Seconds between two looks at the clock and at signals, where nothing else happens.
LOOKS = 1.0


class Watcher:
    """Who is told how a search goes on. keeps: whether weights are of use to it."""

    keeps = True

    def ended(self, trial: Trial, weights: bytes | None) -> None:
        """A trial ended or rests; its weights are here where it is the best so far."""

    def changed(self) -> None:
        """Something has happened."""

    def over(self) -> None:
        """The search has come to its end, whichever."""


class Coordinator:
    """The loop of the coordinator of a search.

    `free` are the blocks that wait for work; `halted`: what all were told to do with their trials, once that is so.
    `signalled`: the signal that told this rank, or another one, to leave.
    """

    def __init__(
        self,
        transport: Transport,
        blocks: Blocks,
        search: Search,
        watcher: Watcher | None = None,
        signals: Signals | None = None,
    ) -> None:
        self._transport, self.search, self._watcher = transport, search, watcher or Watcher()
        self._signals = signals or Signals()
        self._parcels = {
            number: Parcels(transport, transport.peers[blocks.head(number)]) for number in range(1, blocks.count + 1)
        }
        self._heads = {number: transport.peers[blocks.head(number)] for number in self._parcels}
        self.free = list(self._parcels)
        self._works: dict[int, Work] = {}  # by block
        self._asking: Task[Parameters] | None = None
        self._asked_for = (0, 0)
        self.halted: Say | None = None
        self.signalled: str | None = None

    async def run(self) -> None:
        """Search until there is nothing left to do. Raises TrainingError where no block is left, or all trials fail."""
        while await self._give() or self._works or self._asking:
            ready = await self._transport.wait(self._sources(), self._transport.clock() + LOOKS)
            self._answered()
            for block in [block for block, parcels in self._parcels.items() if parcels.listen() in ready]:
                await self._heard(block)
            await self._looked()
            self._watcher.changed()
        if self.halted is not Say.LEAVE:
            self.search.finish()
        self._watcher.over()
        await self._dismiss()

    def _sources(self) -> list[Source]:
        asking = [self._asking] if self._asking is not None else []
        return [*(parcels.listen() for parcels in self._parcels.values()), *asking]

    # What blocks are given.

    async def _give(self) -> bool:
        """Give work to those that are free; whether any has begun to work."""
        given = False
        while self.free and self.halted is None:
            work = self.search.next_work(self.free[0])
            self._ask()
            if work is None:
                break
            block = self.free.pop(0)
            self._works[block] = work
            given |= await self._say(block, {"work": asdict(work)})
        return given

    def _ask(self) -> None:
        """Have the searcher think, on a thread, of the trial after those that are given."""
        if self._asking is None and self.search.wanted is not None:
            question = self.search.question()
            self._asked_for = question[0], len(question[1])
            self._asking = self._transport.offload(partial(self.search.searcher.ask, *question), "ask")

    def _answered(self) -> None:
        if self._asking is not None and self._asking.ready:
            task, self._asking = self._asking, None
            self.search.propose(*self._asked_for, task.result())

    # What blocks tell.

    async def _heard(self, block: int) -> None:
        try:
            told = json.loads(await self._parcels[block].receive_all())
        except PeerLost as lost:
            self._lost(block, lost)
            return
        if "gone" in told:
            self._lost(block, PeerLost(self._heads[block], told["gone"]))
        elif "epoch" in told:
            await self._epoch(block, told)
        else:
            await self._end(block, told)

    async def _epoch(self, block: int, told: Mapping[str, Any]) -> None:
        verdict = self.search.epoch(self._works[block].number, told["epoch"], told["until"], told["figure"])
        if self.halted is None:
            await self._say(block, asdict(verdict))

    async def _end(self, block: int, told: Mapping[str, Any]) -> None:
        work, outcome = self._works.pop(block), outcome_of(told["outcome"])
        self.free.append(block)
        if outcome.status is Status.RUNNING:
            self.search.left(work.number, died=outcome.reason is None)
            self.signalled = self.signalled or outcome.reason
            return
        before = self.search.best
        trial = self.search.end(work.number, outcome)
        wanted = self._watcher.keeps and self.search.best is trial and trial is not before
        self._watcher.ended(trial, await self._weights(block, wanted) if told["weights"] else None)

    async def _weights(self, block: int, wanted: bool) -> bytes | None:
        """What that block has trained, where it is wanted."""
        if not (await self._say(block, {"show": wanted}) and wanted):
            return None
        try:
            return await self._parcels[block].receive_all()
        except PeerLost as lost:
            self._lost(block, lost)
            return None

    def _lost(self, block: int, lost: PeerLost) -> None:
        """That block is gone, and another one has its trial again."""
        del self._parcels[block]
        LOG.warning("block %d is lost: %s", block, lost)
        if work := self._works.pop(block, None):
            self.search.left(work.number, died=True)
        else:
            self.free.remove(block)
        if not self._parcels:
            raise TrainingError(f"no block is left: {lost}")

    async def _say(self, block: int, word: Mapping[str, Any]) -> bool:
        try:
            await self._parcels[block].send(json.dumps(word).encode())
        except PeerLost as lost:
            if block in self._works:
                self._lost(block, lost)
            return False
        return True

    # Ends.

    async def _looked(self) -> None:
        """Have all leave their trials where a signal told so, or end them where the search is over."""
        self.signalled = self.signalled or self._signals.caught
        if self.halted is None and self.signalled is not None:
            await self._halt(Verdict(Say.LEAVE, reason=self.signalled))
        elif self.halted is None and self.search.halts:
            say = Say.LEAVE if self.search.gave_up else Say.STOP
            await self._halt(Verdict(say, reason=self.search.closing))

    async def _dismiss(self) -> None:
        """Tell all blocks that the search is over, and wait until they know."""
        for block in self._parcels:
            await self._say(block, {"over": True})
        for parcels in self._parcels.values():
            with suppress(PeerLost):
                await parcels.receive_all()

    async def _halt(self, verdict: Verdict) -> None:
        self.halted = verdict.say
        for block in list(self._works):
            await self._say(block, asdict(verdict))


def outcome_of(told: Mapping[str, Any]) -> Outcome:
    return Outcome(
        **{**told, "status": Status(told["status"]), "folds": tuple(told["folds"]), "figures": tuple(told["figures"])}
    )
