"""How far a training has come: a bar on a terminal, otherwise a line every few seconds and one an epoch.

    epoch 3/9   45%  loss 0.1230  acc 0.9631  staleness 1.0  21.4k/s  ETA  0:12
    epoch 3/9  done  loss 0.1187  acc 0.9642  staleness 1.0  21.3k/s  ETA  0:11  val_loss 0.0981  val_acc 0.9701

Rates are samples a second. A line in between shows the means of the updates since the last one; a line that ends an
epoch, its history entry.
"""

from __future__ import annotations

import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, TextIO

from tqdm import tqdm

from nnlo.training.callbacks import Callback, Logs
from nnlo.training.record import figures_of

LINE_SECONDS, BAR_SECONDS = 5.0, 0.2
RATE_SECONDS = 10.0
NO_FIGURES = {"samples", "epoch", "staleness"}
"""What an update's logs hold beside its loss and metrics."""


class Progress(Callback):
    """Shows samples/s, epoch, loss, metrics, staleness and the time that is left, on `stream` (default stderr).

    epochs, samples_per_epoch: what the training goes through. clock: seconds.
    """

    def __init__(
        self,
        epochs: int,
        samples_per_epoch: int,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.epochs, self.samples_per_epoch = epochs, max(1, samples_per_epoch)
        self.stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._bar: Bar | None = None
        self._unreported = 0  # the first epoch whose end is not shown yet, once there is one
        self._interval = LINE_SECONDS
        self._recent = Recent()
        self._begin(clock())

    def _begin(self, now: float) -> None:
        self._began, self._due = now, now + self._interval
        self._speed = Speed(self.epochs * self.samples_per_epoch)

    def on_train_begin(self, logs: Logs) -> None:
        if has_width(self.stream):
            self._interval = BAR_SECONDS
            self._bar = Bar(self.epochs * self.samples_per_epoch, self.stream)
        self._begin(self._clock())

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        self._recent.add(logs)
        now = self._clock()
        if now >= self._due:
            self._show(now, int(logs["samples"]))
        elif not self._speed.marks:
            self._speed.mark(now, int(logs["samples"]))

    def _show(self, now: float, samples: int) -> None:
        self._due = now + self._interval
        self._speed.mark(now, samples)
        number = min(self.epochs, max(1, -(-samples // self.samples_per_epoch)))
        share = min(1.0, samples / self.samples_per_epoch - (number - 1))
        figures, staleness = self._recent.take()
        rate = self._speed.rate
        self._unreported = self._unreported or number
        if self._bar is None and number > self._unreported:
            return  # an epoch before this one is still being validated, and its line comes first
        if self._bar is None:
            self._print(
                [self._epoch(number), f"{share:>4.0%}", *line(figures, staleness, rate), self._left(samples, rate)]
            )
        else:
            text = [self._left(samples, rate), rate_text(rate), *figures_text(figures), f"staleness {staleness:.1f}"]
            self._bar.show(self._epoch(number), "  ".join(text), samples)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        now = self._clock()
        self._due = now + self._interval
        trained, validated = figures_of(logs)
        rate = logs["samples_per_second"]
        parts = line(trained, logs["staleness"]["mean"], rate)
        if epoch + 1 < self.epochs:
            parts.append(self._left((epoch + 1) * self.samples_per_epoch, rate))
        else:
            parts.append(f"in  {duration(now - self._began):>5}")
        self._unreported = epoch + 2
        self._print([self._epoch(epoch + 1), "done", *parts, *figures_text(validated)])

    def on_train_end(self, logs: Logs) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _left(self, samples: int, rate: float) -> str:
        """The time that is left at the present speed, or at `rate` where that is not known yet."""
        return f"ETA {duration(self._speed.left(samples, rate)):>5}"

    def _epoch(self, number: int) -> str:
        return f"epoch {number:>{len(str(self.epochs))}}/{self.epochs}"

    def _print(self, parts: Sequence[str]) -> None:
        text = "  ".join(parts)
        if self._bar is not None:
            self._bar.print(text)
        else:
            self.stream.write(text + "\n")
            self.stream.flush()


def has_width(stream: TextIO) -> bool:
    """Whether it is a terminal that a bar can be drawn on: some say that they have no columns."""
    if not stream.isatty():
        return False
    try:
        return os.get_terminal_size(stream.fileno()).columns > 0
    except (OSError, ValueError):
        return True


class Recent:
    """Means over the updates since the last line: of the loss, the metrics and the staleness."""

    def __init__(self) -> None:
        self.names: tuple[str, ...] = ()
        self.clear()

    def clear(self) -> None:
        self.updates = self.staleness = 0
        self.sums = [0.0] * len(self.names)

    def add(self, logs: Logs) -> None:
        if not self.names:
            self.names = tuple(name for name in logs if name not in NO_FIGURES)
            self.clear()
        self.updates += 1
        self.staleness += logs["staleness"]
        sums = self.sums
        for place, name in enumerate(self.names):
            sums[place] += logs[name]

    def take(self) -> tuple[dict[str, float], float]:
        updates = max(1, self.updates)
        figures = {name: total / updates for name, total in zip(self.names, self.sums, strict=True)}
        staleness = self.staleness / updates
        self.clear()
        return figures, staleness


class Speed:
    """Samples a second over the last RATE_SECONDS or the last two marks, and the time that `total` samples take."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.marks: deque[tuple[float, int]] = deque()

    def mark(self, now: float, samples: int) -> None:
        self.marks.append((now, samples))
        while len(self.marks) > 2 and self.marks[1][0] <= now - RATE_SECONDS:
            self.marks.popleft()

    @property
    def rate(self) -> float:
        """NaN as long as it is not known."""
        if len(self.marks) < 2:
            return math.nan
        (began, first), (ended, last) = self.marks[0], self.marks[-1]
        return (last - first) / (ended - began) if ended > began else math.nan

    def left(self, samples: int, otherwise: float) -> float:
        """Seconds until `total`, of which at least `samples` are done; `otherwise`: the rate where it is not known."""
        rate = otherwise if math.isnan(self.rate) else self.rate
        done = max(samples, self.marks[-1][1] if self.marks else 0)
        return (self.total - done) / rate if rate > 0 else math.nan


class QuietTqdm(tqdm):  # type: ignore[type-arg]
    """tqdm as a picture alone, without its watching thread and its lock between processes, and with a text of ours."""

    monitor_interval = 0
    text = ""

    @property
    def format_dict(self) -> MutableMapping[str, Any]:
        return {**super().format_dict, "text": self.text}


QuietTqdm.set_lock(threading.RLock())


class Bar:
    """A bar over the whole training, at the bottom of a terminal."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total = total
        look = "{desc} {percentage:3.0f}% |{bar:12}| {text}"
        self._tqdm = QuietTqdm(
            total=total, file=stream, bar_format=look, dynamic_ncols=True, leave=False, disable=False, desc="starting"
        )

    def show(self, epoch: str, text: str, samples: int) -> None:
        self._tqdm.n = min(samples, self._total)
        self._tqdm.text = text
        self._tqdm.set_description_str(epoch, refresh=True)

    def print(self, text: str) -> None:
        """A line that stays, above the bar."""
        self._tqdm.write(text, file=self._tqdm.fp)

    def close(self) -> None:
        self._tqdm.close()


def line(figures: Mapping[str, float], staleness: float, rate: float) -> list[str]:
    return [*figures_text(figures), f"staleness {staleness:.1f}", rate_text(rate)]


def figures_text(figures: Mapping[str, float]) -> list[str]:
    return [f"{name} {figure(value)}" for name, value in figures.items()]


def figure(value: float) -> str:
    """Six characters for a usual loss or metric: 0.1234, 12.345, 1.2e-05."""
    size = abs(value)
    if size >= 1000 or 0 < size < 0.001:
        return f"{value:.1e}"
    return f"{value:.4f}" if size < 10 else f"{value:.5g}"


def rate_text(rate: float) -> str:
    """Samples a second, always as wide: 21.4k/s."""
    size, unit = (1e6, "M") if rate >= 1e6 else (1e3, "k") if rate >= 1e3 else (1.0, "")
    scaled = rate / size
    text = "?" if math.isnan(rate) else f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.1f}{unit}"
    return f"{text:>5}/s"


def duration(seconds: float) -> str:
    """1:05, 2:03:04, or ? where it is not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
