"""How a master takes a moment of the whole training: all workers are told to show what they have, and wait.

Updates that are under way are taken in as ever. Each answer says that a state is wanted; its worker takes the answer
in, sends its state and waits. Once all have, the centre, what is dealt and all workers belong together.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from nnlo.errors import PeerLost
from nnlo.roles.parcels import Parcels
from nnlo.roles.setup import Setup
from nnlo.training.checkpoint.contents import Restored
from nnlo.training.checkpoint.parcel import Tree, packed
from nnlo.training.seeds import random_state, set_random_state

if TYPE_CHECKING:
    from nnlo.roles.master import Master


class Saving:
    """`quiet` are the workers that have shown their state and wait; `owed` those that waited at the checkpoint."""

    def __init__(self, master: Master, setup: Setup) -> None:
        self._master, self._setup = master, setup
        self._numbers = {peer: number for number, peer in enumerate(master.links, 1)}
        self._parcels = {peer: Parcels(master.transport, peer) for peer in master.links} if setup.keeps else {}
        self.quiet: set[int] = set()
        self.owed: set[int] = set()
        self._kept: set[int] = set()
        self.signalled = False

    @property
    def under_way(self) -> bool:
        return self._master.answers.saving

    @property
    def _over(self) -> bool:
        """Whether training ends here."""
        return self._master.stopping or self._master.finished or self._master.owner.stop_at_once

    def consider(self) -> None:
        """A step has been made: tell the workers to show what they have, if it is time."""
        master = self._master
        leaves = self.signalled or self._setup.signals.caught is not None
        if self.under_way or master.failure:
            return
        if master.turns.saves(master.checkpoints.due(self._over, leaves)):
            self.signalled = leaves
            master.answers.saving = True

    async def complete(self) -> None:
        """Take what all have shown, and let them go on."""
        master = self._master
        if not (self.under_way and master.links) or master.pending or self.quiet != set(master.links):
            return
        if master.failure:
            await self.drop()
            return
        await master.checkpoints.begin(master.clock, self._over)
        await master.checkpoints.collect([(self._numbers[peer], self._parcels[peer]) for peer in master.links])
        master.checkpoints.close(self.state_dict())
        if self.signalled and not self._over:
            await master.checkpoints.written()
            master.preempt(self._setup.signals.caught or "a signal", master.checkpoints.last)
        master.stopping |= master.owner.stop_at_once
        self.end()

    async def drop(self) -> None:
        """The job fails: take what is shown, so that nobody is stuck with it, and keep nothing."""
        for peer in self._master.links:
            with suppress(PeerLost):
                await self._parcels[peer].receive(lambda piece: None)
        self.end()

    def end(self) -> None:
        """Those who wait are to be answered."""
        master = self._master
        master.answers.saving = False
        for peer in self.quiet:
            master.answers.shown(peer)
        self.quiet.clear()

    def state_dict(self) -> Tree:
        master = self._master
        return {
            "stepper": master.stepper.state_dict(self._numbers),
            "clock": master.clock,
            "batches": master.batches,
            "marks": master.milestones.marks.state_dict(),
            "dealer": master.dealer.state_dict(),
            "owed": [self._numbers[peer] for peer in master.answers.owed],
            "recorder": master.recorder.state_dict(),
            "judge": master.judge.state_dict(),
            "seconds": master.seconds(),
            "random": random_state(),
        }

    def load_state_dict(self, restored: Restored) -> None:
        """Go on from a checkpoint. Where there are as many workers as there were, those of which it has the state go
        on too; what others had to do is dealt anew."""
        master, tree = self._master, restored.master
        same = tree["dealer"]["workers"] == len(self._numbers)
        kept = {n: peer for peer, n in self._numbers.items() if same and restored.worker(n) is not None}
        self._kept, self.owed = set(kept.values()), {kept[number] for number in tree["owed"] if number in kept}
        master.clock, master.batches = tree["clock"], tree["batches"]
        master.stepper.load_state_dict(tree["stepper"], kept)
        master.milestones.marks.load_state_dict(tree["marks"])
        if master.dealer.load_state_dict(tree["dealer"], kept):
            master.clock = master.dealer.epoch * self._setup.intake.samples
        else:
            master.recorder.load_state_dict(tree["recorder"])
        master.judge.load_state_dict(tree["judge"])
        master.milestones.snapshot.take(master.stepper.centre.arena)
        set_random_state(tree["random"])

    async def hand_out(self, restored: Restored) -> None:
        """Give the workers what they had, and what they are to do of what was dealt."""
        master = self._master
        names, state = master.algorithm.alike, restored.master["stepper"]["algorithm"]
        alike, moves = {name: state[name] for name in names if name in state}, master.stepper.moves is not None
        for peer, number in self._numbers.items():
            own = restored.worker(number)
            ranges = [[one.epoch, one.first, one.count] for one in master.dealer.granted[peer]]
            told = {"own": own is not None, "ranges": ranges, "alike": alike, "moves": moves and peer in self._kept}
            await self._parcels[peer].send(packed(told))
            if own is not None:
                await self._parcels[peer].send(own)
