"""What rank 0 keeps of a collective training in a checkpoint, and how it goes on from one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnlo.roles.checkpoints import preempted
from nnlo.roles.parcels import Parcels
from nnlo.roles.peer_state import dealt_again
from nnlo.roles.setup import Setup
from nnlo.training.checkpoint.contents import Restored, worker_file
from nnlo.training.checkpoint.parcel import Tree, packed, unpacked
from nnlo.training.seeds import random_state, set_random_state

if TYPE_CHECKING:
    from nnlo.roles.chair import Chair


class ChairState:
    """At a point of the run all workers have the same weights, which rank 0 was shown: they show the rest."""

    def __init__(self, chair: Chair, setup: Setup) -> None:
        self._chair = chair
        self._pools = len(setup.intake.pools)

    @property
    def _parcels(self) -> dict[int, Parcels]:
        """By the numbers of the workers."""
        return {n: self._chair.leaving.parcels[peer] for n, peer in enumerate(self._chair.workers, 1)}

    async def save(self, signal: str | None) -> None:
        """Take what the workers show, unless one is lost; `signal`: that for which the job leaves then."""
        chair = self._chair
        showing = [peer for peer in chair.workers if await chair.leaving.shows(peer)]
        if showing == chair.workers:
            await self._save()
        else:
            for peer in showing:
                await chair.leaving.pass_over(peer)
        if signal:
            await chair.checkpoints.written()
            chair.failure = preempted(signal, chair.checkpoints.last)

    async def _save(self) -> None:
        chair = self._chair
        await chair.checkpoints.begin(chair.clock, chair.over)
        if await chair.checkpoints.collect(list(self._parcels.items()), all_of_them=True):
            chair.checkpoints.close(state_dict(chair))

    async def hand_out(self, restored: Restored) -> None:
        """Give the workers what they had; new ones get what is the same on all."""
        files = {number: restored.worker(number) for number in range(1, restored.master["workers"] + 1)}
        states = {n: unpacked(data, f"worker {n} of {restored.saved.folder}") for n, data in files.items() if data}
        epoch, dealt = dealt_again(states, len(self._parcels), self._pools)
        alike = states[1]["alike"]
        if states[1]["weights"] and len(files) != len(self._parcels):  # of its own, which say nothing among others
            files, dealt = {}, None
        for number, parcels in self._parcels.items():
            own = files.get(number)
            await parcels.send(packed({"own": own is not None, "alike": alike, "epoch": epoch, "dealt": dealt}))
            if own is not None:
                await parcels.send(own)


def state_dict(chair: Chair) -> Tree:
    arena = chair.arena
    return {
        "vector": arena.vector,
        "buffers": arena.buffers,
        "counters": arena.counters,
        "workers": len(chair.workers),
        "clock": chair.clock,
        "batches": chair.batches,
        "steps": chair.steps,
        "marks": chair.milestones.marks.state_dict(),
        "recorder": chair.recorder.state_dict(),
        "judge": chair.judge.state_dict(),
        "seconds": chair.seconds(),
        "random": random_state(),
    }


def load(chair: Chair, restored: Restored) -> None:
    """Go on from there, before the first weights are handed out."""
    tree, arena = restored.master, chair.arena
    missing = [n for n in range(1, tree["workers"] + 1) if worker_file(n) not in restored.saved.about["files"]]
    if missing:
        raise KeyError(worker_file(missing[0]))
    for name in ("vector", "buffers", "counters"):
        getattr(arena, name).copy_(tree[name])
    chair.clock, chair.batches, chair.steps = tree["clock"], tree["batches"], tree["steps"]
    chair.milestones.marks.load_state_dict(tree["marks"])
    chair.recorder.load_state_dict(tree["recorder"])
    chair.judge.load_state_dict(tree["judge"])
    chair.milestones.snapshot.take(arena)
    set_random_state(tree["random"])
