"""The ranks of one process on wall time: what a run without mpirun uses, with the same roles."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TypeVar

from nnlo.comm.aside import Aside, ThreadTask
from nnlo.comm.base import Main, Task, Transport
from nnlo.comm.costs import Costs, Host
from nnlo.comm.streams import RandomStates, SharedRandomState
from nnlo.comm.virtual import Group, Process, VirtualWorld
from nnlo.comm.virtual_transport import VirtualTransport

T = TypeVar("T")

NO_COSTS = Costs(compute=0.0, latency=0.0, bandwidth=float("inf"), local_latency=0.0, local_bandwidth=float("inf"))


class LocalWorld(VirtualWorld):
    """`size` ranks that take turns in this process; their work aside runs on threads."""

    def __init__(self, size: int) -> None:
        super().__init__(size, hosts=[Host(tuple(range(size)), os.cpu_count() or 1)], costs=NO_COSTS)

    def _begin(self) -> None:
        self._since = time.perf_counter()
        self._came = threading.Condition()
        self._ended: deque[Callable[[], None]] = deque()
        self._under_way = 0
        self._aside: dict[int, Aside] = {}
        super()._begin()

    def now(self) -> float:
        return time.perf_counter() - self._since

    def run(self, main: Main[T]) -> T | None:
        try:
            return super().run(main)
        finally:
            for aside in self._aside.values():
                aside.close()

    def _streams(self) -> RandomStates:
        """One for all: threads that read draw from it too, and must not see it swapped."""
        return SharedRandomState()

    def _threads(self) -> AbstractContextManager[None]:
        """As many as torch likes: this process has the machine."""
        return nullcontext()

    def _transport(self, process: Process, group: Group) -> Transport:
        return LocalTransport(self, process, group)

    def _next_event(self) -> Callable[[], None] | None:
        """What is due, or what a thread has ended; sleeps until there is one."""
        with self._came:
            while True:
                if self._ended:
                    self._under_way -= 1
                    return self._ended.popleft()
                wait = self._events[0][0] - self.now() if self._events else None
                if wait is not None and wait <= 0:
                    return super()._next_event()
                if wait is None and not self._under_way:
                    return None
                self._came.wait(wait)

    def start(self, work: Callable[[], T], name: str, process: Process) -> Task[T]:
        """Run `work` on a thread of that rank's."""
        self._under_way += 1
        future = self._aside.setdefault(process.id, Aside()).submit(work, name)
        task = ThreadTask(future)
        future.add_done_callback(lambda _: self._end(partial(self.notify, process, task)))
        return task

    def _end(self, action: Callable[[], None]) -> None:
        with self._came:
            self._ended.append(action)
            self._came.notify()


class LocalTransport(VirtualTransport):
    world: LocalWorld

    def offload(self, work: Callable[[], T], name: str, samples: int = 0) -> Task[T]:
        return self.world.start(self.trace.timed(work, name, samples), name, self.process)
