"""The callbacks that write down a training: what is in their files, when, and what is refused."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from nnlo import Algo, MPIManager
from nnlo.callbacks import Callback, CSVLogger, JSONLinesLogger, LearningRateMonitor, TensorBoard
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import OptionsError, TrainingError
from nnlo.logs import LOG
from nnlo.training import files
from tests.jobs import Built, Rows, labelled

COLUMNS = [
    "epoch", "seconds", "samples", "updates", "lr", "samples_per_second",
    "staleness_mean", "staleness_max", "bytes_up", "bytes_down", "loss", "acc", "val_loss", "val_acc",
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; pictures take their time, and are not drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "draw", lambda history, path: False)
    return tmp_path


def manager(*callbacks: Callback, comm: Any = None, **options: Any) -> MPIManager:
    """Two epochs of 40 samples in batches of 5; validations after every 5 batches."""
    builder = Built(lambda: nn.Linear(8, 4))
    settings = {"trial_name": "t", "output": "out", "callbacks": callbacks, **options}
    algo = Algo("sgd", lr=0.5, validate_every=5)
    return MPIManager(comm, Rows(*labelled(40), 5), algo, builder, 2, ["all"], ["0:20"], **settings)


def trained(*callbacks: Callback, **options: Any) -> dict[str, Any]:
    history = manager(*callbacks, **options).train()
    assert history is not None
    return history


def rows(path: str = "out/Built_t_metrics.csv") -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def lines(path: str = "out/Built_t_metrics.jsonl") -> list[dict[str, Any]]:
    """The file's lines, each strict JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return [json.loads(line, parse_constant=refuse) for line in Path(path).read_text().splitlines()]


class Watch(Callback):
    """What `look` returns whenever an epoch has ended."""

    def __init__(self, look: Callable[[], Any]) -> None:
        self.look = look
        self.seen: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        self.seen.append(self.look())


class Fails(Callback):
    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        raise LookupError(epoch)


@pytest.mark.parametrize("comm", [None, VirtualWorld(3)])
def test_csv_has_a_row_for_each_epoch(comm: Any) -> None:
    epochs = trained(CSVLogger(), comm=comm)["epochs"]
    found = rows()
    assert [list(row) for row in found] == [COLUMNS] * 2
    for row, entry in zip(found, epochs, strict=True):
        flat = {**entry, **{f"staleness_{name}": value for name, value in entry["staleness"].items()}}
        assert {name: float(value) for name, value in row.items()} == {name: flat[name] for name in COLUMNS}


def test_lines_are_there_as_soon_as_they_are_written() -> None:
    watch = Watch(lambda: (len(rows()), len(lines())))
    trained(CSVLogger(), JSONLinesLogger(), watch)
    assert watch.seen == [(1, 3), (2, 7)]


def entry(**figures: Any) -> dict[str, Any]:
    """A history entry."""
    plain = dict.fromkeys(("epoch", "seconds", "samples", "updates", "samples_per_second", "bytes_up", "bytes_down"), 1)
    return {**plain, "lr": 0.5, "loss": 1.0, "staleness": {"mean": 0.0, "max": 0}, **figures}


def opened(logger: Any, path: str) -> Any:
    """The logger as at the beginning of a training, outside of one."""
    logger.path = Path(path)
    logger.on_train_begin({})
    return logger


def test_the_first_row_fixes_the_columns_and_what_is_not_known_is_empty() -> None:
    logger = opened(CSVLogger(), "a.csv")
    for figures in ({"lr": math.nan, "val_loss": 2.0}, {"lr": None, "speed": 3.0, "loss": math.inf}):
        logger.on_epoch_end(0, entry(**figures))
    logger.close()
    first, second = rows("a.csv")
    assert list(first) == [name for name in COLUMNS if not name.endswith("acc")]
    assert (first["lr"], first["loss"], first["val_loss"]) == ("", "1.0", "2.0")
    assert (second["lr"], second["loss"], second["val_loss"]) == ("", "inf", "")


def test_json_lines_are_the_history() -> None:
    history = trained(JSONLinesLogger())
    found: dict[str, list[Any]] = {"validation": [], "epoch": []}
    for line in lines():
        found[line.pop("event")].append(line)
    assert found["epoch"] == history["epochs"] and found["validation"] == history["validations"]
    assert [one["epoch"] for one in found["validation"]] == [0.625, 1, 1.25, 1.875, 2]


def test_json_lines_are_strict() -> None:
    logger = opened(JSONLinesLogger(), "a.jsonl")
    logger.on_epoch_end(0, entry(loss=math.nan))
    logger.on_test_end({"val_loss": math.inf})
    logger.close()
    epoch, validation = lines("a.jsonl")
    assert epoch["event"] == "epoch" and epoch["loss"] is None
    assert validation == {"event": "validation", "val_loss": None}


@pytest.mark.parametrize("logger", [CSVLogger, JSONLinesLogger])
def test_a_file_of_ones_own_needs_no_output_folder(logger: Any) -> None:
    trained(logger("logs/mine"), output=None)
    assert Path("logs/mine").stat().st_size > 0
    with pytest.raises(OptionsError, match=f"^{logger.__name__} logs: mine already there: name another file, or"):
        trained(logger("logs/mine"), output=None)
    trained(logger("logs/mine"), output=None, overwrite=True)
    with pytest.raises(OptionsError, match=f"^{logger.__name__} /proc: cannot write there"):
        trained(logger("/proc/mine"))
    with pytest.raises(OptionsError, match=f"^{logger.__name__} has no place for its files"):
        trained(logger(), output=None)


def test_files_of_an_earlier_run_are_refused_before_training() -> None:
    Path("out").mkdir()
    Path("out/Built_t_metrics.csv").write_text("precious")
    watch = Watch(lambda: None)
    with pytest.raises(OptionsError, match=r"^--output out: Built_t_metrics.csv already there: give another --trial"):
        trained(CSVLogger(), watch)
    assert not watch.seen and Path("out/Built_t_metrics.csv").read_text() == "precious"
    trained(CSVLogger(), overwrite=True)
    assert len(rows()) == 2


class FailsEarly(Callback):
    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        raise LookupError(batch)


def test_a_run_that_fails_before_the_first_line_leaves_no_file() -> None:
    """An old one, that may be overwritten, goes: it is not of this run."""
    with pytest.raises(LookupError):
        trained(CSVLogger(), JSONLinesLogger(), CSVLogger("logs/mine"), FailsEarly())
    assert not list(Path("out").glob("*metrics*")) and not Path("logs").exists()
    Path("out/Built_t_metrics.csv").write_text("old")
    with pytest.raises(LookupError):
        trained(CSVLogger(), FailsEarly(), overwrite=True)
    assert not Path("out/Built_t_metrics.csv").exists()


def test_a_pipe_is_written_to_and_not_replaced() -> None:
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    trained(CSVLogger("pipe"), overwrite=True)
    assert Path("pipe").is_fifo() and os.read(reader, 1 << 16).count(b"\n") == 3
    os.close(reader)


@pytest.mark.parametrize("second", [CSVLogger(), CSVLogger("out/Built_t_metrics.csv")])
def test_two_that_write_one_file_are_refused(second: Callback) -> None:
    with pytest.raises(OptionsError, match=r"^callbacks: out/Built_t_metrics.csv has a writer already, the run"):
        trained(CSVLogger(), second)
    with pytest.raises(OptionsError, match=r"Built_t_history.json has a writer already"):
        trained(CSVLogger("out/Built_t_history.json"))


def test_a_manager_may_train_twice() -> None:
    one = manager(CSVLogger(), overwrite=True)
    one.train()
    one.train()
    assert len(rows()) == 2


def test_a_manager_takes_nothing_but_callbacks() -> None:
    with pytest.raises(OptionsError, match=r"^callbacks: CSVLogger is a class: give an instance, CSVLogger\(\)$"):
        manager(CSVLogger)  # type: ignore[arg-type]


class Closes(Callback):
    """Whether it is closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


class Broken(nn.Linear):
    def forward(self, x: Any) -> Any:
        if self.training:
            raise ArithmeticError
        return super().forward(x)


@pytest.mark.parametrize("comm", [None, VirtualWorld(3)])
def test_callbacks_are_closed_however_training_ends(comm: Any) -> None:
    def closed(error: type[Exception] | None, *others: Callback, **options: Any) -> bool:
        one, logger = Closes(), CSVLogger()
        made = manager(logger, one, *others, comm=comm, overwrite=True, **options)
        if others == ():
            made.train()
        else:
            with pytest.raises(LookupError):
                made.train()
        return one.closed and logger._file is None

    assert closed(None) and closed(LookupError, Fails())
    assert len(rows()) == 1  # that of the epoch whose end failed, since the logger came first


def test_callbacks_are_closed_where_a_worker_fails() -> None:
    one = Closes()
    builder = Built(lambda: Broken(8, 4))
    made = MPIManager(
        None, Rows(*labelled(40), 5), Algo("sgd"), builder, 1, ["all"], None, callbacks=[one], output=None
    )
    with pytest.raises(ArithmeticError):
        made.train()
    assert one.closed


def test_a_full_disk_names_the_file_and_the_callback() -> None:
    with pytest.raises(TrainingError, match=r"^callback CSVLogger, on_epoch_end: /dev/full: cannot write \(No space"):
        trained(CSVLogger("/dev/full"), overwrite=True)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Any:
    """The log lines, also where a driver has told the logger to keep them to itself."""
    LOG.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, LOG.name):
        yield lambda: list(dict.fromkeys(record.getMessage() for record in caplog.records))
    LOG.removeHandler(caplog.handler)


def test_the_learning_rate_is_logged_when_it_changes(logged: Any) -> None:
    monitor = LearningRateMonitor()
    for _ in range(2):
        monitor.on_train_begin({})
    for epoch, lr in enumerate((0.5, 0.5, 0.25, math.nan, None, 0.25, 0.5)):
        monitor.on_epoch_end(epoch, entry(lr=lr))
    assert logged() == ["epoch 1: learning rate 0.5", "epoch 3: learning rate 0.25", "epoch 7: learning rate 0.5"]


def scalars(path: str) -> dict[str, list[tuple[int, float]]]:
    """{tag: [(step, value)]} of a run's folder, as TensorBoard reads them."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reading.EventAccumulator(path).Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_reads_the_curves_back() -> None:
    pytest.importorskip("tensorboard")
    watch = Watch(lambda: len(scalars("runs/Built_t")["loss/train"]))
    history = trained(TensorBoard(), watch)
    assert watch.seen == [1, 2]
    found, epochs, validations = scalars("runs/Built_t"), history["epochs"], history["validations"]
    read = {
        "loss/train": lambda one: one["loss"],
        "acc/train": lambda one: one["acc"],
        "lr": lambda one: one["lr"],
        "samples_per_second": lambda one: one["samples_per_second"],
        "staleness/mean": lambda one: one["staleness"]["mean"],
        "staleness/max": lambda one: one["staleness"]["max"],
        "bytes/up": lambda one: one["bytes_up"],
        "bytes/down": lambda one: one["bytes_down"],
    }
    wanted = {tag: [(one["samples"], look(one)) for one in epochs] for tag, look in read.items()}
    for name in ("loss", "acc"):
        wanted[f"{name}/val"] = [(one["samples"], one[f"val_{name}"]) for one in validations]
    assert found.keys() == wanted.keys()
    for tag, points in wanted.items():
        assert found[tag] == [(step, pytest.approx(value, rel=1e-6)) for step, value in points], tag


def test_tensorboard_folders_are_the_runs_own() -> None:
    pytest.importorskip("tensorboard")
    trained(TensorBoard("runs"))
    with pytest.raises(OptionsError, match=r"^--tensorboard runs: Built_t already there: give another --trial-name"):
        trained(TensorBoard("runs"), overwrite=False, output="elsewhere")
    trained(TensorBoard("runs"), overwrite=True)
    assert len(scalars("runs/Built_t")["loss/train"]) == 2
    trained(TensorBoard("runs"), output=None)
    assert len(list(Path("runs").glob("Built_2*/events.*"))) == 1


def test_tensorboard_is_asked_for_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(OptionsError, match=r"^--tensorboard needs tensorboard: pip install tensorboard"):
        trained(TensorBoard())
