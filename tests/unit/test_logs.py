"""Log lines: when, who, what; which of them reach the screen and which the file."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from nnlo import Algo
from nnlo.cli import run
from nnlo.comm.costs import Costs, Fault, FaultKind
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import OptionsError, TrainingError
from nnlo.logs import DETAIL, LOG, OFF_SCREEN, note_error, set_up
from nnlo.training.arguments import OutputArguments
from nnlo.training.progress import Bar
from tests.jobs import Rows, labelled, train_here

LINE = re.compile(r" *\d+\.\d{3} s  (master 0|worker [1-9]\d*)  \S")
X, Y = labelled(96)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The logger as it was."""
    before = LOG.handlers, LOG.propagate, LOG.level
    LOG.handlers = []
    yield
    for handler in LOG.handlers:
        handler.close()
    LOG.handlers, LOG.propagate = before[:2]
    LOG.setLevel(before[2])


def trained(world: Any, **options: Any) -> None:
    settings: dict[str, Any] = {"epochs": 2, "val": Rows(X, Y, 32)} | options
    train_here(world, settings.pop("data", Rows(X, Y, 8)), Algo("sgd"), lambda: nn.Linear(8, 4), **settings)


def told(path: Path) -> list[str]:
    """The lines of a log file without time, each of them whole."""
    lines = path.read_text().splitlines()
    assert all(LINE.match(line) for line in lines)
    return [line.split(" s  ", 1)[1] for line in lines]


def test_a_line_does_not_run_into_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", None, 0)
    bar = Bar(10, sys.stderr)
    bar.show("epoch 1/2", "loss 0.5", 4)
    LOG.info("a line")
    bar.close()
    before, after = capsys.readouterr().err.split("a line\n")
    assert LINE.match(before.rpartition("\r")[2] + "a line") and "epoch 1/2" in before
    assert "epoch 1/2" in after


def test_a_file_tells_the_run_and_the_screen_its_beginning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up("info", tmp_path / "log", 0)
    trained(VirtualWorld(3), verbose=True)
    lines = told(tmp_path / "log")
    assert "master 0  training data: 1 file, 96 samples" in lines
    assert "master 0  validation data: 1 file, 96 samples" in lines
    assert [line for line in lines if re.match(r"master 0  ranks 0 to 2 on \S+, torch threads: 1, 1, 1$", line)]
    for worker in (1, 2):
        assert [line for line in lines if line.startswith(f"worker {worker}  begins on ")]
        assert f"worker {worker}  done" in lines
    for epoch in (1, 2):
        assert [line for line in lines if re.match(rf"master 0  epoch {epoch}/2 done  loss .*acc .*val_loss ", line)]
    assert re.fullmatch(r"master 0  training ends after [\d.]+ s: done", lines[-1])
    screen = capsys.readouterr().err
    assert "a master and 2 workers" in screen
    assert screen.count("epoch 1/2") == 1  # the progress alone
    assert not any(word in screen for word in ("begins on", "training data:", "training ends", "ranks 0"))


def test_debugging_tells_ranges_and_validations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up("debug", tmp_path / "log", 0)
    trained(VirtualWorld(3))
    lines = told(tmp_path / "log")
    dealt = [re.match(r"master 0  worker (\d): epoch (\d), batches (\d+) to (\d+)", line) for line in lines]
    seen = sorted((int(m[2]), k) for m in dealt if m for k in range(int(m[3]), int(m[4]) + 1))
    assert seen == [(epoch, k) for epoch in (1, 2) for k in range(12)]
    assert lines.count("master 0  validation begins") == 2
    assert len([line for line in lines if line.startswith("master 0  validation ends: val_loss ")]) == 2
    assert {"master 0  worker 1 leaves", "master 0  worker 2 leaves"} <= set(lines)
    screen = capsys.readouterr().err
    assert "training data:" in screen and "validation begins" in screen and "epoch 1/2 done" not in screen


def test_warnings_alone_where_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up("warning", tmp_path / "log", 0)
    trained(VirtualWorld(3))
    assert (tmp_path / "log").read_text() == "" and capsys.readouterr().err == ""


def test_a_lost_worker_is_told(tmp_path: Path) -> None:
    set_up("warning", tmp_path / "log", 0)
    trained(VirtualWorld(4, costs=Costs(notice=0.001), faults=[Fault(2, 2, FaultKind.DIE)]))
    (line,) = told(tmp_path / "log")
    assert re.fullmatch(r"master 0  warning: rank 2 is lost: it no longer answers \(on .+\); workers left: 2", line)


def test_refused_updates_are_told_more_and_more_seldom(tmp_path: Path) -> None:
    set_up("warning", tmp_path / "log", 0)
    bad = np.full_like(X, np.inf)
    with pytest.raises(TrainingError):
        trained(VirtualWorld(3), data=Rows(bad, Y, 8), val=None)
    lines = told(tmp_path / "log")
    assert [int(re.findall(r"refused: (\d+) until now", line)[0]) for line in lines] == [1, 2, 4, 8]
    assert all(re.match(r"master 0  warning: an update of rank [12] is inf or nan", line) for line in lines)


def test_the_screen_of_another_rank_shows_warnings_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    set_up("debug", tmp_path / "log", 2)
    LOG.info("hidden")
    LOG.warning("shown")
    LOG.warning("elsewhere", extra=OFF_SCREEN)
    screen = capsys.readouterr().err.splitlines()
    assert [line.split(" s  ")[1] for line in screen] == ["worker 2  warning: shown"]
    assert told(tmp_path / "log") == ["worker 2  hidden", "worker 2  warning: shown", "worker 2  warning: elsewhere"]


@pytest.mark.parametrize(("level", "shown"), [("info", False), ("debug", True)])
def test_details_are_on_the_screen_when_debugging(level: str, shown: bool, capsys: pytest.CaptureFixture[str]) -> None:
    set_up(level, None, 0)
    LOG.info("more", extra=DETAIL)
    assert ("more" in capsys.readouterr().err) is shown


def test_an_error_is_in_the_file_and_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    note_error("nobody hears it")
    set_up("error", tmp_path / "log", 0)
    note_error("rank 1 failed:\nTraceback")
    assert (tmp_path / "log").read_text().endswith("master 0  error: rank 1 failed:\nTraceback\n")
    assert capsys.readouterr().err == ""


def test_each_line_is_one_write_behind_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log").write_text("   9.876 s  worker 12  before\n")
    set_up("info", tmp_path / "log", 0)
    written: list[bytes] = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: (written.append(data), write(fd, data))[1])
    LOG.info("a long line %s", "x" * 100_000)
    (tmp_path / "log").open("a").write("another process\n")
    LOG.info("second")
    assert len(written) == 2
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines[0].endswith("  before") and lines[2] == "another process" and lines[3].endswith("second")


def test_a_file_of_something_else_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "train.list"
    path.write_text("part0.h5\n")
    with pytest.raises(OptionsError, match=r"--log-file .*train\.list is there and is no log of nnlo: name another"):
        set_up("info", path, 0)
    assert path.read_text() == "part0.h5\n"
    path.write_text("")
    set_up("info", path, 0)


def test_a_folder_is_refused_without_a_word_at_the_end(tmp_path: Path) -> None:
    program = f"from nnlo.logs import set_up; from pathlib import Path; set_up('info', Path({str(tmp_path)!r}), 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (
        done.stderr.splitlines()[-1].startswith("nnlo.errors.OptionsError: --log-file") and "atexit" not in done.stderr
    )


def test_a_disk_that_is_full_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    set_up("info", Path("/dev/full"), 0)
    LOG.info("lost")


def test_verbose_is_the_debug_level() -> None:
    assert OutputArguments(verbose=True).level == "debug"
    assert OutputArguments(log_level="error").level == "error"
    with pytest.raises(OptionsError, match=r"--verbose .*--log-level warning"):
        OutputArguments(verbose=True, log_level="warning")


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_an_error_of_all_ranks_is_in_the_file_once(
    rank: str, lines: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        set_up("info", tmp_path / "log", int(rank))
        raise OptionsError("--batch is wrong")

    monkeypatch.setenv("PMI_RANK", rank)
    with pytest.raises(SystemExit):
        run("Tool", fails)
    assert len(told(tmp_path / "log")) == lines
