"""Whose updates make the next step of the centre."""

from __future__ import annotations

from collections.abc import Callable, Collection

from nnlo.algos import ServerAlgorithm


class Quorum:
    """The rule of one algorithm. `busy(peer)`: batches that it has to compute; `strangers` have not said hello yet."""

    def __init__(self, algorithm: ServerAlgorithm, busy: Callable[[int], int]) -> None:
        self._algorithm, self._busy = algorithm, busy

    def next(self, pending: Collection[int], present: Collection[int], strangers: Collection[int]) -> list[int]:
        """The workers of the next step, out of those whose update is `pending`; none where it has to wait.

        A synchronous one waits for all who have batches, but for the backup workers.
        """
        if not self._algorithm.synchronous:
            return list(pending)[:1]
        awaited = [peer for peer in present if peer not in pending and (self._algorithm.lockstep or self._busy(peer))]
        return [] if len(awaited) > self._algorithm.backup_workers or strangers else sorted(pending)
