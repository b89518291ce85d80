"""What a worker of a server algorithm shows for a checkpoint, and how it goes on from one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nnlo.comm.messages import Flag, Header, Kind
from nnlo.data.dealing import Range
from nnlo.roles.kept import kept, put_back
from nnlo.roles.parcels import Parcels
from nnlo.training.checkpoint.parcel import packed, unpacked

if TYPE_CHECKING:
    from nnlo.roles.worker import Worker


class WorkerState:
    """All that the next update of `worker` depends on, but for what the first reply says again."""

    def __init__(self, worker: Worker, parcels: Parcels) -> None:
        self._worker, self._parcels, self._forgets = worker, parcels, False

    async def show(self, owed: bool) -> None:
        """Send it to the first rank."""
        await self._parcels.send(packed(await self.state_dict(owed)))

    async def state_dict(self, owed: bool) -> dict[str, Any]:
        worker = self._worker
        worker.computing.flat.gather(worker.up.counters)
        return {
            "algorithm": kept(worker.algorithm, worker.state, worker.update),
            "x": None if worker.algorithm.follows else worker.x,
            "compressor": worker.compressor and worker.compressor.state,
            "buffers": worker.up.buffers,
            "counters": worker.up.counters,
            "computing": await worker.computing.state_dict(),
            "version": worker.version,
            "factor": worker.factor,
            "held": worker.held is not None,
            "owed": owed,
            "waits": worker.waits,
        }

    async def received(self) -> dict[str, Any] | None:
        """What the first rank has of a checkpoint for this one, which begins with what it is to do of its batches.

        None where the worker begins anew.
        """
        told = unpacked(await self._parcels.receive_all(), "the checkpoint")
        for dealt in told["ranges"]:
            self._worker.computing.add(Range(*dealt))
        put_back(self._worker.state, told["alike"])
        self._forgets = self._worker.algorithm.reply_is_move and not told["moves"]
        return unpacked(await self._parcels.receive_all(), "the checkpoint") if told["own"] else None

    async def load_state_dict(self, saved: dict[str, Any], reply: Header) -> None:
        """Continue from there, after this first reply: what it says may be what the last update was answered."""
        worker = self._worker
        if saved["x"] is not None:
            worker.x.copy_(saved["x"])
        put_back(worker.state, saved["algorithm"])
        if worker.compressor:
            worker.compressor.state = saved["compressor"]
        worker.up.buffers.copy_(saved["buffers"])
        worker.computing.flat.write_counters(saved["counters"])
        await worker.computing.load_state_dict(saved["computing"])
        worker.version, worker.factor = saved["version"], saved["factor"]
        kind = reply.kind if worker.algorithm.reply_is_move else Kind.REPLY
        worker.held = replace(reply, kind=kind, flags=Flag.NONE, count=0) if saved["held"] else None
        worker.waits = saved["waits"]
        if self._forgets:
            worker.algorithm.start(worker.x, worker.weights.vector, worker.state)
