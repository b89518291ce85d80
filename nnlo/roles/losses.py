"""What it means for a job that a worker is lost, or that nothing is heard of any."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nnlo.errors import PeerLost, TrainingError
from nnlo.logs import LOG
from nnlo.training.history import History
from nnlo.training.job import Job

#: A worker that hangs ends itself after --stall-timeout; one that cannot is waited for so many times as long.
PATIENCE = 2


class Losses:
    """Notes in the history's `lost` who is lost and when; `seconds` is the training clock, `clock` the transport's."""

    def __init__(self, job: Job, history: History, seconds: Callable[[], float], clock: Callable[[], float]) -> None:
        self._wanted, self._history, self._seconds, self._clock = job.survival, history, seconds, clock
        self._patience = PATIENCE * job.survival.stall_timeout * job.algorithm.sync_every

    def deadline(self) -> float | None:
        """Until when something is to be heard, on the transport's clock; None for no limit."""
        return self._clock() + self._patience if self._patience else None

    def silence(self, awaited: Sequence[int]) -> None:
        """Nothing was. Raises TrainingError, which ends the job: who hangs could not take part in an orderly end."""
        hosts = self._history["hosts"]
        who = ", ".join(f"rank {peer} on {hosts[peer]}" for peer in awaited)
        raise TrainingError(f"nothing was heard of {who} for {self._patience:g} s (twice --stall-timeout a batch)")

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
