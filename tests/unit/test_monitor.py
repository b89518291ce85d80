"""The monitor: a series of bounded length for each process, with its GPUs where they can be asked."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from nnlo import Algo, Callback, MPIManager
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import OptionsError
from nnlo.logs import LOG
from nnlo.training import gpus, monitor
from nnlo.training.monitor import Monitor, Samples
from tests.jobs import Built, Rows, labelled, train_here


def job(comm: Any = None, **options: Any) -> MPIManager:
    data = Rows(*labelled(160), 8)
    return MPIManager(comm, data, Algo("sgd"), Built(lambda: nn.Linear(8, 4)), 2, ["all"], None, output=None, **options)


class NoGpu(Exception):
    pass


class FakeNvml:
    """pynvml for two devices; the second does not tell its utilisation."""

    NVMLError = NoGpu

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index > 1:
            raise NoGpu
        return index

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> int:
        if uuid != b"GPU-b":
            raise NoGpu
        return 1

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> SimpleNamespace:
        if handle:
            raise NoGpu("not supported")
        return SimpleNamespace(gpu=37)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:
        return SimpleNamespace(used=(handle + 1) << 30)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU, and nothing said of which to use."""
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.fixture
def lines() -> Iterator[list[str]]:
    kept: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: kept.append(record.getMessage())  # type: ignore[method-assign]
    level = LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    yield kept
    LOG.removeHandler(handler)
    LOG.setLevel(level)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "monitor"]


@pytest.mark.parametrize("comm", [None, VirtualWorld(4)], ids=["one process", "virtual"])
def test_one_process_has_one_series(comm: Any) -> None:
    history = job(comm, monitor=0.01).train()
    assert history is not None
    ((rank, series),) = history["monitor"].items()
    assert rank == "0"
    assert series.keys() == {"seconds", "cpu_percent", "memory_bytes"}
    assert len({len(column) for column in series.values()}) == 1
    assert series["seconds"] == sorted(series["seconds"]) and series["seconds"][0] > 0
    assert all(1e7 < size < 1.1 * history["peak_memory_bytes"]["0"] for size in series["memory_bytes"])
    assert all(share >= 0 for share in series["cpu_percent"])
    assert threads() == []


def test_off_unless_asked_for() -> None:
    history = job().train()
    assert history is not None and "monitor" not in history


class Fails(Callback):
    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        assert threads() == ["monitor"]
        raise KeyError("on purpose")


def test_the_thread_ends_with_a_training_that_fails() -> None:
    with pytest.raises(KeyError, match="on purpose"):
        job(monitor=0.01, callbacks=[Fails()]).train()
    assert threads() == []


@pytest.mark.parametrize("seconds", [0, -1.0, 0.001, float("inf"), float("nan"), "fast", True])
def test_bad_intervals(seconds: Any) -> None:
    with pytest.raises(OptionsError, match="--monitor must be"):
        job(monitor=seconds)


def test_a_long_series_is_thinned_out() -> None:
    samples = Samples()
    for number in range(1, monitor.MOST_SAMPLES):
        assert not samples.add(float(number), {"cpu_percent": float(number % 2)})
    assert samples.add(float(monitor.MOST_SAMPLES), {"cpu_percent": 0.0})
    assert samples.columns["seconds"] == [float(2 * k + 2) for k in range(monitor.MOST_SAMPLES // 2)]
    assert set(samples.columns["cpu_percent"]) == {0.5}


def test_a_thinned_out_series_goes_on_at_half_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "MOST_SAMPLES", 4)
    watched = Monitor(100.0)
    waited: list[float] = []
    monkeypatch.setattr(watched._ended, "wait", lambda seconds: waited.append(seconds) or len(waited) > 9)
    watched.start()
    watched._thread.join()
    assert waited == [100.0] * 4 + [200.0] * 2 + [400.0] * 2 + [800.0] * 2
    assert len(watched.series()["seconds"]) == 3


def test_figures_of_the_gpus(device: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    run = train_here(None, Rows(*labelled(80), 8), Algo("sgd"), lambda: nn.Linear(8, 4), monitor=0.01)
    series = run.history["monitor"]["0"]
    assert set(series["gpu0_percent"]) == {37.0} and set(series["gpu0_memory_bytes"]) == {float(1 << 30)}
    assert set(series["gpu1_memory_bytes"]) == {float(2 << 30)}
    assert all(value != value for value in series["gpu1_percent"])  # NaN: null in the file


@pytest.mark.parametrize(
    ("visible", "names"), [(None, ["0", "1"]), ("1", ["1"]), ("GPU-b, 0", ["GPU-b", "0"]), ("", []), ("7,-1", [])]
)
def test_gpus_that_this_process_may_use(visible: str | None, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert list(gpus.handles(FakeNvml())) == names


def test_a_missing_package_is_told_where_there_is_a_gpu(
    device: None, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    history = job(monitor=0.01).train()
    assert history is not None and set(history["monitor"]["0"]) == {"seconds", "cpu_percent", "memory_bytes"}
    assert [line for line in lines if "pip install 'nnlo[monitor]'" in line] == lines[:1]
    assert len([line for line in lines if "nvidia-ml-py" in line]) == 1


def test_a_library_that_does_not_answer_is_told(
    device: None, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    def broken() -> None:
        raise NoGpu("Driver Not Loaded")

    library = FakeNvml()
    monkeypatch.setattr(library, "nvmlInit", broken)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert gpus.find_gpus() is None
    assert "Driver Not Loaded" in lines[0]


def test_without_a_gpu_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]) -> None:
    monkeypatch.setattr(gpus, "DEVICES", tmp_path)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpus.find_gpus() is None and lines == []
