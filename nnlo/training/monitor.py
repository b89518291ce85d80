"""How busy this process is: CPU, memory and GPUs, sampled by a thread of its own."""

from __future__ import annotations

import threading
import time

import psutil

from nnlo.training.gpus import Gpus, find_gpus

Series = dict[str, list[float]]

#: Samples of a series; an even number.
MOST_SAMPLES = 512


class Samples:
    """Columns of one length; once there are MOST_SAMPLES each two become their mean, at the time of the later one."""

    def __init__(self) -> None:
        self.columns: Series = {}

    def __len__(self) -> int:
        return len(self.columns.get("seconds", ()))

    def add(self, seconds: float, figures: dict[str, float]) -> bool:
        """Whether there were so many that they were merged."""
        for name, value in {"seconds": seconds, **figures}.items():
            self.columns.setdefault(name, []).append(value)
        if len(self) < MOST_SAMPLES:
            return False
        times = self.columns["seconds"][1::2]
        self.columns = {name: merged(values) for name, values in self.columns.items()} | {"seconds": times}
        return True


def merged(values: list[float]) -> list[float]:
    return [(first + second) / 2 for first, second in zip(values[::2], values[1::2], strict=True)]


class Monitor:
    """Samples the process every `interval` seconds of real time, less often as the series grows long."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._samples = Samples()
        self._turn = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def start(self) -> None:
        self._began = time.perf_counter()
        self._process = psutil.Process()
        self._process.cpu_percent()  # the first call begins the measurement
        self._gpus: Gpus | None = find_gpus()
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._interval):
            self._take()

    def _take(self) -> None:
        with self._turn:
            figures = {
                "cpu_percent": self._process.cpu_percent(),
                "memory_bytes": float(self._process.memory_info().rss),
            }
            figures |= self._gpus.sample() if self._gpus else {}
            if self._samples.add(time.perf_counter() - self._began, figures):
                self._interval *= 2

    def series(self) -> Series:
        """The samples until now, at least one: "seconds" since the beginning, and a list for each figure."""
        if not len(self._samples):
            self._take()
        with self._turn:
            return {name: [round(value, 3) for value in values] for name, values in self._samples.columns.items()}
