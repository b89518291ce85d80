"""Ranks that train one thing after another: what one of them raises ends that training alone, on all of them.

A rank that fails tells the others, which look from time to time while they wait for something. All leave their roles
and come together; what was still under way is received and forgotten. Then they can begin anew.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NoReturn, TypeVar

from nnlo.comm.agree import attempt
from nnlo.comm.base import Main
from nnlo.comm.gathered import Gathered
from nnlo.comm.motion import MpiCollective
from nnlo.comm.mpi import MPI, MpiTransport, MpiWorld, drive, gathered, settle
from nnlo.comm.patience import Patience
from nnlo.comm.watch import Watch
from nnlo.errors import LauncherLost, NnloError, PeerLost, Stranded, TrialFailed, describe
from nnlo.logs import note_error

T = TypeVar("T")
R = TypeVar("R")

#: Who these come from cannot go on with anything.
FATAL = (LauncherLost, Stranded, PeerLost)
#: Numbers are used again after so many; MPI has tags for as many at least.
MOST_RUNS = 30_000


class GivenUp(NnloError):
    """Another rank has failed."""


class ContainedWorld(MpiWorld):
    """`control` carries nothing but alarms, whose tag is the number of the run that they are about.

    `lost`: whether ranks have died, which others outlive: then a new world is to be made of those who are left.
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        super().__init__(comm)
        self._control, self._number = comm.Dup(), 0
        self.lost = False

    def run(self, main: Main[T]) -> T | None:
        """Raises TrialFailed on every rank where one of them raises what they have not agreed on, and PeerLost where
        this rank cannot go on without one that died.
        """
        transport, found, error = self.open(), None, None
        self._number = self._number % MOST_RUNS + 1
        transport.motion.watch.alarm = partial(self._heed, transport.motion.watch)
        try:
            found = drive(main(transport))
        except FATAL as fault:
            if transport.motion.watch.failures and isinstance(fault, PeerLost):
                transport.motion.close()
                raise
            self.abort(fault)
        except Exception as caught:
            error = caught
        transport.motion.watch.alarm = lambda: None
        failed = self._together(transport, error)
        self.lost |= bool(transport.motion.watch.lost)
        if failed:
            self._hush(transport.motion.watch)
            transport.discard()
            transport.motion.close()
            raise TrialFailed(failed) from error
        self.close(transport)
        if error is not None:
            raise error
        return found if self.comm.rank == 0 else None

    def everywhere(self, work: Callable[[], R], undo: Callable[[R], None]) -> R:
        """Do `work` on every rank, and give this rank's result. Raises TrialFailed on all where one raises anything.

        `undo` is called with what `work` gave on this rank where it failed on another one.
        """
        results, error = attempt(work)
        text = None
        if error is not None:
            text = str(error) if isinstance(error, NnloError) else f"rank {self.comm.rank} failed: {describe(error)}"
        told = map(json.loads, gathered(self._control, json.dumps(text).encode(), lambda: None))
        if failed := list(dict.fromkeys(filter(None, told))):
            for result in results:
                undo(result)
            raise TrialFailed("; ".join(failed)) from error
        return results[0]

    def _alarmed(self, watch: Watch) -> bool:
        """Whether one of the others has failed; asked one by one: of anybody MPI would complain of the dead."""
        with suppress(*watch.errors):
            return any(self._control.Iprobe(rank, self._number) for rank in self._others(watch))
        return False

    def _others(self, watch: Watch) -> list[int]:
        return [rank for rank in range(self.comm.size) if rank != self.comm.rank and rank not in watch.lost]

    def _heed(self, watch: Watch) -> None:
        if self._alarmed(watch):
            raise GivenUp

    def _together(self, transport: MpiTransport, error: Exception | None) -> str | None:
        """Wait for all ranks; what those say who have failed, None where none has."""
        failed = error is not None and not isinstance(error, GivenUp) and not getattr(error, "agreed", False)
        if error is not None and failed:
            if transport.motion.watch.failures and transport.motion.goes_out:
                self.abort(error)
            note_error("".join(traceback.format_exception(error)).rstrip())
            self._alarm(transport)
        text = f"rank {self.comm.rank} failed: {describe(error)}" if error is not None and failed else None
        torn = any(isinstance(item, MpiCollective) for item in transport.motion.under_way)
        told = self._told(transport, json.dumps([text, torn]).encode(), failed)
        texts, tears = zip(*map(json.loads, told), strict=True)
        if any(texts) and any(tears):
            self._end(error if failed else None)
        return "; ".join(filter(None, texts)) or None

    def _told(self, transport: MpiTransport, own: bytes, failed: bool) -> list[bytes]:
        """What each rank says, of those who are left. Raises PeerLost where the first one is not."""
        if transport.motion.watch.failures:
            return Gathered(transport).of(own)
        return gathered(self._control, own, lambda: self._drain(transport, failed))

    def _alarm(self, transport: MpiTransport) -> None:
        """Tell the others, and wait until that and what else was being sent has left."""
        others = self._others(transport.motion.watch)
        alarms = [self._control.Isend([b"", MPI.BYTE], rank, self._number) for rank in others]
        sends = [item.request for item in transport.motion.under_way if not isinstance(item, MpiCollective)]
        patience = Patience(spin=False)
        while not all(request.Test() for request in [*alarms, *sends]):
            patience.pause()
            self._drain(transport, True)

    def _hush(self, watch: Watch) -> None:
        """Receive the alarms, which are of no use any more."""
        for rank in self._others(watch):
            with suppress(*watch.errors):
                while self._control.Iprobe(rank, self._number):
                    self._control.Recv([bytearray(1), 0, MPI.BYTE], rank, self._number)

    def _drain(self, transport: MpiTransport, failed: bool) -> None:
        """Where a rank has failed, receive what nobody wants any more, so that its senders are free.

        Where ranks outlive others, what they tell one another at the end comes the same way, and is wanted.
        """
        if transport.motion.node is not None:
            transport.motion.node.wait(0)
        if transport.motion.watch.failures or not (failed or self._alarmed(transport.motion.watch)):
            return
        status = MPI.Status()
        for comm in transport.comms():
            while comm.Iprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status):
                scratch = bytearray(status.Get_count(MPI.BYTE))
                comm.Recv([scratch, MPI.BYTE], status.Get_source(), status.Get_tag())

    def _end(self, error: Exception | None) -> NoReturn:
        """A collective of MPI is under way on some of the ranks, and nothing can end it."""
        if error is not None:
            self.abort(error)
        settle(self._control.Ibarrier())
        raise AssertionError("the rank that failed goes on")
