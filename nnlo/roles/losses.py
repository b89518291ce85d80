"""What it means for a job that a worker is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nnlo.errors import PeerLost
from nnlo.logs import LOG
from nnlo.training.history import History
from nnlo.training.survival import SurvivalArguments


class Losses:
    """Notes in the history's `lost` who is lost and when; `seconds` is the training clock."""

    def __init__(self, wanted: SurvivalArguments, history: History, seconds: Callable[[], float]) -> None:
        self._wanted, self._history, self._seconds = wanted, history, seconds

    def note(self, workers: Sequence[int], lost: PeerLost, left: int, samples: int) -> str | None:
        """These workers are lost when the clock is at so many `samples`, and so many are left; why the job stops."""
        hosts = self._history["hosts"]
        when = {"seconds": self._seconds(), "samples": samples}
        self._history["lost"].extend({"rank": worker, "host": hosts[worker], **when} for worker in workers)
        others = [str(worker) for worker in workers if worker != lost.peer]
        behind = f", and with it what trains behind it: {', '.join(others)}" if others else ""
        LOG.warning("%s (on %s)%s; workers left: %d", lost, hosts[lost.peer], behind, left)
        if self._wanted.on_worker_loss == "stop":
            return f"{lost}, and the job stops for it (--on-worker-loss stop)"
        if 0 < left < self._wanted.min_workers:
            return f"{lost}, and {left} left are fewer than --min-workers {self._wanted.min_workers}"
        return None
