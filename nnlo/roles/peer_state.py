"""What a worker of a collective shows for a checkpoint, and how it goes on from one.

What is the same on all workers is shown by the first of them alone, and given to all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nnlo.data.dealing import UNBOUNDED, Range, even_share
from nnlo.roles.kept import divided, kept, put_back
from nnlo.roles.parcels import Parcels
from nnlo.training.checkpoint.parcel import packed, unpacked

if TYPE_CHECKING:
    from nnlo.roles.peer import Rounds

SAME = ("clock", "batches", "version", "bad_in_a_row", "factor")


class PeerState:
    """All that the next round of a worker depends on, but for the weights and buffers, which rank 0 has."""

    def __init__(self, rounds: Rounds, parcels: Parcels) -> None:
        self._rounds, self._parcels = rounds, parcels

    async def show(self, epoch: int) -> None:
        """Send it to rank 0; the next round is of this epoch."""
        await self._parcels.send(packed(await self.state_dict(epoch)))

    async def state_dict(self, epoch: int) -> dict[str, Any]:
        rounds = self._rounds
        rounds.computing.flat.gather(rounds.up.counters)
        own, alike = divided(kept(rounds.algorithm, rounds.state, rounds.update), rounds.algorithm.alike)
        reducing, reducing_alike = rounds.reducing.state_dict()
        same = {name: getattr(rounds, name) for name in SAME} | {"marks": rounds.marks.state_dict()}
        ranges = [[one.epoch, one.first, one.count] for one in rounds.computing.prefetch.ranges]
        return {
            "algorithm": own,
            "reducing": reducing,
            "counters": rounds.up.counters,
            "computing": await rounds.computing.state_dict(),
            "epoch": epoch,
            "ranges": [one for one in ranges if one[0] == epoch],
            "alike": None if rounds.workers.rank else {**same, "algorithm": alike, "reducing": reducing_alike},
        }

    async def restored(self) -> int:
        """Go on from what rank 0 has of a checkpoint; the epoch of the next round."""
        rounds = self._rounds
        told = unpacked(await self._parcels.receive_all(), "the checkpoint")
        epoch: int = told["epoch"]
        for dealt in told["ranges"]:
            rounds.computing.add(Range(*dealt))
        if told["whole"]:
            rounds.deal(epoch)
        alike = told["alike"]
        rounds.scale(alike["factor"])
        for name in SAME:
            setattr(rounds, name, alike[name])
        rounds.marks.load_state_dict(alike["marks"])
        put_back(rounds.state, alike["algorithm"])
        rounds.reducing.load_state_dict({}, alike["reducing"])
        if told["own"]:
            await self._load_own(unpacked(await self._parcels.receive_all(), "the checkpoint"), alike)
        return epoch

    async def _load_own(self, saved: dict[str, Any], alike: dict[str, Any]) -> None:
        rounds = self._rounds
        put_back(rounds.state, saved["algorithm"])
        rounds.reducing.load_state_dict(saved["reducing"], alike["reducing"])
        rounds.computing.flat.write_counters(saved["counters"])
        await rounds.computing.load_state_dict(saved["computing"])


def dealt_again(states: Mapping[int, Mapping[str, Any]], workers: int, pools: int) -> tuple[int, list[list[list[int]]]]:
    """The epoch that goes on, and what each of so many `workers` is to do of it: what is left, in equal parts.

    states: what workers have shown, by number. As many workers as there were have each its own again; so has one with a
    pool of its own, and where there are other numbers of those, their epoch begins anew.
    """
    epoch = next(iter(states.values()))["epoch"]
    if sorted(states) == list(range(1, workers + 1)):
        return epoch, [list(states[number]["ranges"]) for number in sorted(states)]
    if pools > 1:
        return epoch, [[[epoch, 0, UNBOUNDED]] for _ in range(workers)]
    left = sorted(one for state in states.values() for one in state["ranges"])
    return epoch, [part_of(left, *even_share(sum(one[2] for one in left), place, workers)) for place in range(workers)]


def part_of(ranges: Sequence[Sequence[int]], start: int, stop: int) -> list[list[int]]:
    """Of the batches in these ranges, numbered through, those from `start` to `stop`."""
    found, before = [], 0
    for epoch, first, count in ranges:
        low, high = max(start, before), min(stop, before + count)
        if low < high:
            found.append([epoch, first + low - before, high - low])
        before += count
    return found
