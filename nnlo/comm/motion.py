"""What one rank has under way over MPI and on its node, and how it waits for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from nnlo.comm.base import Effect, Send, Source
from nnlo.comm.node import LONGEST_AWAY, LONGEST_WAIT, Node
from nnlo.comm.patience import Patience
from nnlo.comm.watch import Failures, Watch
from nnlo.errors import PeerLost


class UnderWay(Protocol):
    """What MPI moves: `request` is an mpi4py request."""

    request: Any
    posted: bool

    def complete(self) -> None:
        """It has arrived, or left."""


class End(UnderWay, Protocol):
    """That of a channel, where the next message may arrive."""

    peer: int

    def lose(self) -> None:
        """The peer is gone."""


class MpiRequest(Send):
    """A message that leaves."""

    def __init__(self, request: Any) -> None:
        self.request, self.posted = request, True

    @property
    def ready(self) -> bool:
        return not self.posted

    def complete(self) -> None:
        self.posted = False


class MpiCollective(MpiRequest):
    """A collective of `comm`, whose ranks are `peers`: nobody can finish it once one of them is lost."""

    def __init__(self, request: Any, watch: Watch, comm: Any, peers: frozenset[int]) -> None:
        super().__init__(request)
        self._watch, self.comm, self._peers = watch, comm, peers

    @property
    def lost(self) -> frozenset[int]:
        """Those of its ranks that are."""
        return self._peers & self._watch.lost

    @property
    def ready(self) -> bool:
        if self.posted and (lost := self.lost):
            raise PeerLost(min(lost))
        return not self.posted


class Motion:
    """The messages of one rank that are under way, in all its groups, so that one wait covers them; its clock.

    Those between ranks of one host go by its `node`, all others by MPI, over `comm` and what was made of it.
    `goes_out`: whether there are such. `failures`: what MPI knows of those who have died, where this rank goes on
    without them.
    """

    def __init__(self, node: Node | None, comm: Any, failures: Failures | None = None) -> None:
        self.began, self.node, self._comm = time.perf_counter(), node, comm
        self.goes_out = node is None or len(node.peers) < comm.size
        self.longest = LONGEST_AWAY if self.goes_out else LONGEST_WAIT
        self.waits = False
        self.channels: list[End] = []
        self.requests: list[MpiRequest] = []
        self.watch = Watch(failures, self._lose)
        if node is not None:
            node.ended = self.watch.ended

    def clock(self) -> float:
        return time.perf_counter() - self.began

    @property
    def all_rings(self) -> bool:
        """Whether MPI moves nothing, and is not going to."""
        return not (self.goes_out or self.channels or self.requests)

    @property
    def active(self) -> list[UnderWay]:
        """What MPI moves."""
        return [*(channel for channel in self.channels if channel.posted), *self.requests]

    @property
    def under_way(self) -> list[MpiRequest]:
        """What is going to leave or to be finished."""
        return [item for item in self.requests if item.posted and not (isinstance(item, MpiCollective) and item.lost)]

    def begin(self, request: MpiRequest) -> MpiRequest:
        """A message that leaves or a collective is under way from now on."""
        self.requests.append(request)
        return request

    def progress(self) -> None:
        """Let what is under way move on."""
        if self.node is not None:
            self.node.wait(0)
        self._test()

    def _test(self) -> None:
        if self.all_rings:
            return
        active = self.active
        if active:
            self._test_some(active)
            self.requests = [request for request in self.requests if request.posted]
        elif self.goes_out:
            self._comm.Iprobe(self._comm.rank)  # of anybody it would complain of the dead

    def _test_some(self, active: list[UnderWay]) -> None:
        requests = [item.request for item in active]
        try:
            done = requests[0].Testsome(requests)
        except self.watch.errors as error:
            self._sort_out(active, error)
            return
        for index in done or ():
            active[index].complete()

    def _sort_out(self, active: list[UnderWay], error: Exception) -> None:
        """Some of what is under way cannot be completed: see who is lost, and complete what has arrived or left."""
        if not (self.watch.look() or self.watch.lost):
            raise error
        for item in active:
            if item.posted and not isinstance(item, MpiCollective):
                with suppress(*self.watch.errors):  # what fails now is over the next time
                    if item.request.Test():
                        item.complete()

    def give_up(self, comm: Any) -> None:
        """Wait until MPI is done with the collectives of a communicator that was revoked."""
        given_up = [item for item in self.requests if isinstance(item, MpiCollective) and item.comm is comm]
        for item in given_up:
            patience = Patience(spin=False)
            with suppress(*self.watch.errors):  # one that has failed is over
                while not item.request.Test():
                    patience.pause()
        self.requests = [item for item in self.requests if item not in given_up]

    def _lose(self, peer: int) -> None:
        """Nothing comes of that rank any more."""
        for channel in self.channels:
            if channel.peer == peer:
                channel.lose()
        if self.node is not None:
            self.node.lose(peer)

    # Waiting.

    def rest(self, patience: Patience, rings: bool, left: float | None) -> None:
        """Sleep, then look: until there is something new where all of it `rings`, for `left` seconds at most."""
        if self.node is None:
            patience.pause()
        elif rings and not self.active and not patience.spin:
            self.sleep(left)
        else:
            self.node.wait(patience.seconds())
        self._test()

    def sleep(self, left: float | None) -> None:
        """Until the node rings, for `left` seconds at most."""
        assert self.node is not None
        self.node.wait(self.longest if left is None else min(left, self.longest))

    def wake(self, *_: object) -> None:
        """Something got ready on another thread."""
        if self.waits and self.node is not None:
            self.node.wake()

    def close(self) -> None:
        if self.node is not None:
            self.node.close()


class Poll(Effect[list[Source]]):
    """Wait until a source is ready, giving the core away meanwhile; `spin` keeps it."""

    def __init__(self, motion: Motion, spin: bool, sources: Sequence[Source], deadline: float | None) -> None:
        self.motion, self.spin, self.sources, self.deadline = motion, spin, sources, deadline

    def perform(self) -> list[Source]:
        rings = all(source.rings for source in self.sources)
        patience = None if rings and not self.spin and self.motion.all_rings else Patience(self.spin)
        if patience:
            self.motion.progress()
        self.motion.waits = True  # what gets ready from here on rings: it is looked for once more before the first rest
        try:
            return self._wait(patience, rings)
        finally:
            self.motion.waits = False

    def _wait(self, patience: Patience | None, rings: bool) -> list[Source]:
        while not (ready := [source for source in self.sources if source.ready]):
            left = None if self.deadline is None else self.deadline - self.motion.clock()
            if left is not None and left <= 0:
                break
            if patience:
                self.motion.rest(patience, rings, left)
            else:
                self.motion.sleep(left)
            self.motion.watch.check()
        return ready
