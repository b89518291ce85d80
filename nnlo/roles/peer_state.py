"""What a worker of a collective shows for a checkpoint, and how it goes on from one.

What is the same on all workers is shown by the first of them alone, and given to all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnlo.data.dealing import UNBOUNDED, Range
from nnlo.roles.kept import divided, kept, put_back
from nnlo.roles.shares import Ranges, in_parts
from nnlo.training.checkpoint.parcel import packed, unpacked

if TYPE_CHECKING:
    from nnlo.roles.rounds import Rounds

SAME = ("clock", "batches", "version", "bad_in_a_row", "factor")


class PeerState:
    """All that the next round of a worker depends on, but for the weights and buffers, which rank 0 has."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds, self._parcels = rounds, rounds.parcels

    async def show(self) -> None:
        """Send it to rank 0."""
        await self._parcels.send(packed(await self.state_dict()))

    async def state_dict(self) -> dict[str, Any]:
        rounds = self._rounds
        algorithm = rounds.job.algorithm
        rounds.computing.flat.gather(rounds.up.counters)
        own, alike = divided(kept(algorithm, rounds.state, rounds.update), algorithm.alike)
        reducing, reducing_alike = rounds.reducing.state_dict()
        return {
            "algorithm": own,
            "reducing": reducing,
            "counters": rounds.up.counters,
            "computing": await rounds.computing.state_dict(),
            "epoch": rounds.epoch,
            "ranges": [[one.epoch, one.first, one.count] for one in rounds.ranges],
            "weights": rounds.own(),
            "alike": None
            if rounds.workers.rank
            else {**same(rounds), "algorithm": alike, "reducing": reducing_alike},
        }  # fmt: skip

    async def restored(self) -> None:
        """Go on from what rank 0 has of a checkpoint."""
        rounds = self._rounds
        told = unpacked(await self._parcels.receive_all(), "the checkpoint")
        rounds.epoch = told["epoch"]
        rounds.shares.begin(told["dealt"])
        for dealt in told["dealt"][rounds.workers.rank] if told["dealt"] else ():
            rounds.computing.add(Range(*dealt))
        if told["dealt"] is None:
            rounds.deal(rounds.epoch)
        alike = told["alike"]
        take_over(rounds, alike)
        rounds.reducing.load_state_dict({}, alike["reducing"])
        if told["own"]:
            await self._load_own(unpacked(await self._parcels.receive_all(), "the checkpoint"), alike)

    async def _load_own(self, saved: dict[str, Any], alike: dict[str, Any]) -> None:
        rounds = self._rounds
        put_back(rounds.state, saved["algorithm"])
        rounds.reducing.load_state_dict(saved["reducing"], alike["reducing"])
        rounds.hold(saved["weights"])
        rounds.computing.flat.write_counters(saved["counters"])
        await rounds.computing.load_state_dict(saved["computing"])


def same(rounds: Rounds) -> dict[str, Any]:
    """Where all workers are."""
    return {name: getattr(rounds, name) for name in SAME} | {"marks": rounds.marks.state_dict()}


def take_over(rounds: Rounds, alike: Mapping[str, Any]) -> None:
    """Be where that is, with the state of the algorithm that belongs there."""
    rounds.scale(alike["factor"])
    for name in SAME:
        setattr(rounds, name, alike[name])
    rounds.marks.load_state_dict(alike["marks"])
    put_back(rounds.state, alike["algorithm"])


def dealt_again(states: Mapping[int, Mapping[str, Any]], workers: int, pools: int) -> tuple[int, list[Ranges] | None]:
    """The epoch that goes on, and what each of so many `workers` is to do of it: what is left, in equal parts.

    states: what workers have shown, by number. As many workers as there were have each its own again; so has one with a
    pool of its own, and where there are other numbers of those, their epoch begins anew. None for all of the epoch:
    nothing of it had been dealt, as it comes after what was the last one then.
    """
    epoch = next(iter(states.values()))["epoch"]
    if sorted(states) == list(range(1, workers + 1)):
        dealt = [list(states[number]["ranges"]) for number in sorted(states)]
    elif pools > 1:
        dealt = [[[epoch, 0, UNBOUNDED]] for _ in range(workers)]
    else:
        dealt = in_parts(sorted(one for state in states.values() for one in state["ranges"]), workers)
    return epoch, dealt if any(dealt) else None
