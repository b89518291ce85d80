"""Threads for work done aside: reading and validating, one thread for each name."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from nnlo.comm.base import Task

T = TypeVar("T")

NICENESS = 10


class ThreadTask(Task[T]):
    """A task that a thread works on."""

    def __init__(self, future: Future[T], rings: bool = False) -> None:
        self.future, self.rings = future, rings

    @property
    def ready(self) -> bool:
        return self.future.done()

    def result(self) -> T:
        return self.future.result()


class Aside:
    """Starts work on threads that yield to training: one torch thread each, and niced where asked."""

    def __init__(self, niced: frozenset[str] = frozenset({"validation"})) -> None:
        self._niced = niced
        self._threads: dict[str, ThreadPoolExecutor] = {}

    def submit(self, work: Callable[[], T], name: str) -> Future[T]:
        if name not in self._threads:
            self._threads[name] = ThreadPoolExecutor(1, name, initializer=begin_thread, initargs=(name in self._niced,))
        return self._threads[name].submit(work)

    def close(self) -> None:
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)


def begin_thread(niced: bool) -> None:
    torch.set_num_threads(1)
    if niced:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
