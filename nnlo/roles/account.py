"""What a step of the centre is remembered by: the record of the epoch, and what callbacks are told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnlo.roles.stepping import Arrived
from nnlo.training.callbacks import Callbacks
from nnlo.training.record import Recorder


class Account:
    """Notes steps in `recorder` and tells `callbacks`; an epoch has `samples`."""

    def __init__(self, recorder: Recorder, callbacks: Callbacks, samples: int) -> None:
        self._recorder, self._callbacks, self._samples = recorder, callbacks, samples

    def add(self, arrived: Sequence[Arrived], step: int, clock: int) -> None:
        """Step number `step`, after which the clock is at `clock` samples."""
        for one in arrived:
            peer, _, delay, samples = one.lineage
            self._recorder.update(peer, samples, one.sums, delay, one.header.busy_us * 1e-6)
        self._recorder.step()
        if self._callbacks.wants_updates:
            self._callbacks.on_train_batch_end(step, self._logs(arrived, clock))

    def _logs(self, arrived: Sequence[Arrived], clock: int) -> dict[str, Any]:
        _, _, staleness, samples = arrived[0].lineage
        sums = arrived[0].sums
        for one in arrived[1:]:
            staleness, samples = max(staleness, one.lineage.delay), samples + one.lineage.samples
            sums = [mine + theirs for mine, theirs in zip(sums, one.sums, strict=True)]
        logs = {"samples": clock, "epoch": clock / self._samples, "staleness": staleness}
        for name, total in zip(self._recorder.metric_names, sums, strict=True):
            logs[name] = total / samples
        return logs
