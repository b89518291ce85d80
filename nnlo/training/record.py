"""What the master sees of a training, added up to one history entry an epoch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

Entry = dict[str, Any]

COUNTS = ("epoch", "seconds", "samples", "updates", "bytes_up", "bytes_down")
REFUSED = ("refused", "refused_samples", "late", "late_samples", "skipped", "skipped_samples")
NOT_FIGURES = frozenset((*COUNTS, *REFUSED, "staleness", "samples_per_second", "lr", "ranks"))
"""What an entry holds beside its loss and metrics."""


class Tally:
    """What came from one worker since the epoch began; `sums` go with the recorder's metric names."""

    __slots__ = ("busy_seconds", "bytes_down", "bytes_up", "late", "refused", "samples", "skipped", "sums", "updates")

    def __init__(self, metrics: int) -> None:
        self.samples = self.updates = self.refused = self.late = self.skipped = self.bytes_up = self.bytes_down = 0
        self.busy_seconds = 0.0
        self.sums = [0.0] * metrics


class Recorder:
    """Adds up plain numbers, since `update` runs for every update that the master gets.

    metric_names: of the sums that come with an update, the first of them "loss".
    clock: the training clock in seconds; the first epoch begins now, so make the recorder when training starts.
    """

    def __init__(self, metric_names: Sequence[str], clock: Callable[[], float]) -> None:
        self.metric_names = tuple(metric_names)
        self.seconds = clock
        self._places = range(len(self.metric_names))
        self._begin()

    def _begin(self) -> None:
        self._began = self.seconds()
        self._tallies: defaultdict[int, Tally] = defaultdict(partial(Tally, len(self.metric_names)))
        self._delays: dict[int, int] = {}
        self._steps = self._refused_samples = self._late_samples = self._skipped_samples = 0

    def state_dict(self) -> Entry:
        """The epoch so far."""
        tallies = {
            worker: {name: getattr(tally, name) for name in Tally.__slots__} for worker, tally in self._tallies.items()
        }
        return {
            "began": self._began, "tallies": tallies, "delays": dict(self._delays), "steps": self._steps,
            "refused_samples": self._refused_samples, "late_samples": self._late_samples,
            "skipped_samples": self._skipped_samples,
        }  # fmt: skip

    def load_state_dict(self, state: Entry) -> None:
        """Go on with that epoch."""
        self._begin()
        self._began, self._steps, self._delays = state["began"], state["steps"], dict(state["delays"])
        self._refused_samples, self._late_samples = state["refused_samples"], state["late_samples"]
        self._skipped_samples = state["skipped_samples"]
        for worker, saved in state["tallies"].items():
            for name, value in saved.items():
                setattr(self._tallies[worker], name, value)

    def update(self, worker: int, samples: int, sums: Sequence[float], delay: int, busy_seconds: float) -> None:
        """An update of `worker` was applied `delay` centre steps after the weights that it was computed from.

        sums: of the loss and of each metric over its samples. busy_seconds: what the worker computed for it. The step
        itself is counted by `step`: one step may be made of several updates.
        """
        tally = self._tallies[worker]
        tally.samples += samples
        tally.updates += 1
        tally.busy_seconds += busy_seconds
        own = tally.sums
        for place in self._places:
            own[place] += sums[place]
        delays = self._delays
        delays[delay] = delays.get(delay, 0) + 1

    def step(self) -> None:
        """The centre made one step, out of one update or of several."""
        self._steps += 1

    def refused(self, worker: int, samples: int) -> None:
        """An update of `worker` was not applied, since it, or its sum with others', was not finite.

        Its loss and metrics do not count.
        """
        self._tallies[worker].refused += 1
        self._refused_samples += samples

    def skipped(self, worker: int, samples: int) -> None:
        """A batch of `worker` could not be read; its samples count as gone through."""
        self._tallies[worker].skipped += 1
        self._skipped_samples += samples

    def late(self, worker: int, samples: int, busy_seconds: float) -> None:
        """An update of `worker` was not applied, since it came too late; its loss and metrics do not count."""
        tally = self._tallies[worker]
        tally.late += 1
        tally.busy_seconds += busy_seconds
        self._late_samples += samples

    def received(self, worker: int, nbytes: int) -> None:
        """A message of `nbytes` bytes came up from `worker`, or from a master for it and for others."""
        self._tallies[worker].bytes_up += nbytes

    def replied(self, worker: int, nbytes: int) -> None:
        """A message of `nbytes` bytes went down to `worker`."""
        self._tallies[worker].bytes_down += nbytes

    def close_epoch(self, epoch_number: int, clock_samples: int, lr: float | None) -> Entry:
        """The history entry of the epoch that ends now, without its val_ figures; the next one begins.

        epoch_number counts from 1; clock_samples is the master's clock. A mean over nothing is NaN. The rates of the
        ranks add up to the epoch's.
        """
        seconds = self.seconds()
        elapsed = seconds - self._began
        tallies = [tally for _, tally in sorted(self._tallies.items())]
        entry = {
            "epoch": epoch_number,
            "seconds": seconds,
            "samples": clock_samples,
            "updates": self._steps,
            "refused": sum(tally.refused for tally in tallies),
            "refused_samples": self._refused_samples,
            "late": sum(tally.late for tally in tallies),
            "late_samples": self._late_samples,
            "skipped": sum(tally.skipped for tally in tallies),
            "skipped_samples": self._skipped_samples,
            **self._means(tallies),
            "staleness": staleness(self._delays),
            "bytes_up": sum(tally.bytes_up for tally in tallies),
            "bytes_down": sum(tally.bytes_down for tally in tallies),
            "samples_per_second": ratio(sum(tally.samples for tally in tallies), elapsed),
            "lr": lr,
            "ranks": {str(worker): self._rank(tally, elapsed) for worker, tally in sorted(self._tallies.items())},
        }
        self._begin()
        self._began = seconds
        return entry

    def _means(self, tallies: Sequence[Tally]) -> dict[str, float]:
        samples = sum(tally.samples for tally in tallies)
        return {
            name: ratio(sum(tally.sums[place] for tally in tallies), samples)
            for place, name in enumerate(self.metric_names)
        }

    def _rank(self, tally: Tally, elapsed: float) -> Entry:
        return {
            "samples": tally.samples,
            "updates": tally.updates,
            "refused": tally.refused,
            "late": tally.late,
            "skipped": tally.skipped,
            **self._means([tally]),
            "busy_seconds": tally.busy_seconds,
            "samples_per_second": ratio(tally.samples, elapsed),
            "bytes_up": tally.bytes_up,
            "bytes_down": tally.bytes_down,
        }


def staleness(delays: dict[int, int]) -> dict[str, Any]:
    """Mean, maximum and histogram (index = delay) of {delay: number of updates}."""
    total = sum(delay * count for delay, count in delays.items())
    top = max(delays, default=0)
    histogram = [delays.get(delay, 0) for delay in range(top + 1)] if delays else []
    return {"mean": ratio(total, sum(delays.values())), "max": top, "histogram": histogram}


def ratio(part: float, whole: float) -> float:
    """part / whole, NaN where there is nothing to divide by."""
    return part / whole if whole > 0 else math.nan


def figures_of(entry: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """The loss and metrics of a history entry: those of training, and the val_ ones."""
    known = {
        name: value for name, value in entry.items() if isinstance(value, (int, float)) and name not in NOT_FIGURES
    }
    trained = {name: value for name, value in known.items() if not name.startswith("val_")}
    return trained, {name: value for name, value in known.items() if name not in trained}
