"""What a worker of a collective does when another one is lost: it stops, and goes on with those who are left.

The round that is under way is given up: its batches are dealt again, unless one of the workers has been through it to
its end, which nobody can be without what all the others had to give to it. Those who have not then take over where that
one is. Rank 0 says how all go on, once all have stopped.

What is the worker's own stays as it is: the momenta of a batch that is computed again count it twice. What codecs keep,
and what is still to be sent for error feedback, begins anew, as after a round whose sum is not finite.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnlo.comm.messages import Kind
from nnlo.data.dealing import Range
from nnlo.roles.kept import divided, kept
from nnlo.roles.peer_state import same, take_over
from nnlo.training.checkpoint.parcel import packed, unpacked

if TYPE_CHECKING:
    from nnlo.roles.rounds import Rounds


WEIGHTS = ("vector", "buffers", "counters")


class Regrouping:
    def __init__(self, rounds: Rounds) -> None:
        self._rounds, self._parcels = rounds, rounds.parcels

    async def leave(self) -> None:
        """Say that this worker is done."""
        await self._parcels.send(b"", Kind.BYE)

    async def run(self) -> bool:
        """Stop, and go on as rank 0 says; whether there is anything to go on with. Raises PeerLost at another loss."""
        if self._rounds.under_way:
            self._rounds.refused()
        await self._parcels.send(packed(self._position()), Kind.STOPPED)
        while (told := unpacked(await self._parcels.receive_all(), "rank 0"))["shows"]:
            await self._parcels.send(packed(self._state()))
        if told["peers"]:
            await self._go_on(told)
        return bool(told["peers"])

    def _position(self) -> dict[str, Any]:
        """How far this worker has come."""
        rounds = self._rounds
        left = [] if rounds.shares.apart else rounds.shares.left(rounds.epoch)
        return {"rounds": rounds.rounds, "epoch": rounds.epoch, "left": left}

    def _state(self) -> dict[str, Any]:
        """What is the same on all who have come as far."""
        rounds, algorithm = self._rounds, self._rounds.job.algorithm
        rounds.computing.flat.gather(rounds.up.counters)
        _, alike = divided(kept(algorithm, rounds.state, rounds.update), algorithm.alike)
        return {
            "alike": {**same(rounds), "algorithm": alike},
            "vector": rounds.x,
            "buffers": rounds.computing.kept if rounds.under_way else rounds.up.buffers,
            "counters": rounds.up.counters,
            "told": [one.record for one in rounds.told],
            "flags": rounds.flags,
            "figures": rounds.figures,
        }

    async def _go_on(self, told: Mapping[str, Any]) -> None:
        """With these `peers`, from the round after number `rounds`."""
        rounds = self._rounds
        rounds.reducing.close()
        workers = await rounds.workers.regroup(tuple(told["peers"]))
        if rounds.under_way:
            rounds.computing.restore_buffers()
        if rounds.rounds < told["rounds"]:
            self._catch_up(told)
        rounds.under_way = False
        rounds.form(workers)
        if rounds.job.algorithm.sends_gradient:
            rounds.reducing.scale(rounds.factor)
        rounds.shares.begin(told["dealt"])
        if not rounds.shares.apart:
            await rounds.computing.deal_again([Range(*one) for one in told["dealt"][workers.rank]])
        rounds.reports.open()
        rounds.regrouped()

    def _catch_up(self, told: Mapping[str, Any]) -> None:
        """Others have been through the round that this worker has not, or it has not begun at all."""
        rounds, state = self._rounds, told["state"]
        rounds.catch_up({name: state[name] for name in WEIGHTS})
        if state["alike"]:
            take_over(rounds, state["alike"])
        rounds.hopeless = rounds.bad_in_a_row >= rounds.job.max_bad_updates
        rounds.rounds, rounds.epoch = told["rounds"], told["epoch"]
