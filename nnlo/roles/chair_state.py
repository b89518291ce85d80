"""What rank 0 keeps of a collective training in a checkpoint, and how it goes on from one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnlo.comm.messages import Header, Kind
from nnlo.flat import HEADER_BYTES
from nnlo.roles.checkpoints import preempted
from nnlo.roles.parcels import Parcels
from nnlo.roles.peer import NOTICES
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
        self._parcels = {n: Parcels(chair.transport, peer) for n, peer in enumerate(chair.workers, 1)}
        self._pools = len(setup.intake.pools)
        self._notices = chair.transport.channel(chair.workers[0], NOTICES, HEADER_BYTES)
        self._noticed = False

    def notice(self, signalled: bool) -> None:
        """A round is over that is no point of the run: have the next one be one, if it is time."""
        if not self._noticed and self._chair.checkpoints.due(False, signalled):
            self._notices.send(Header(Kind.STATE), self._chair.transport.storage(HEADER_BYTES))
            self._noticed = True

    async def save(self, signal: str | None) -> None:
        """Take what the workers show; `signal`: that for which the job leaves then."""
        chair = self._chair
        self._noticed = False
        await chair.checkpoints.begin(chair.clock, chair.over)
        await chair.checkpoints.collect(list(self._parcels.items()), all_of_them=True)
        chair.checkpoints.close(state_dict(chair))
        if signal:
            await chair.checkpoints.written()
            chair.failure = preempted(signal, chair.checkpoints.last)

    async def hand_out(self, restored: Restored) -> None:
        """Give the workers what they had; new ones get what is the same on all."""
        files = {number: restored.worker(number) for number in range(1, restored.master["workers"] + 1)}
        states = {n: unpacked(data, f"worker {n} of {restored.saved.folder}") for n, data in files.items() if data}
        epoch, dealt = dealt_again(states, len(self._parcels), self._pools)
        alike = states[1]["alike"]
        for number, parcels in self._parcels.items():
            own = files.get(number)
            told = {"own": own is not None, "alike": alike, "epoch": epoch, "ranges": dealt[number - 1]}
            await parcels.send(packed({**told, "whole": not any(dealt)}))  # after what was the last epoch then
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
