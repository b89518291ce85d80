"""PlotHistory: pictures and reports from histories; each bad input is one line and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nnlo.drivers import PlotHistory
from nnlo.errors import DataError
from nnlo.launcher import RANK_VARIABLES, SIZE_VARIABLES
from nnlo.training.files import write_history
from nnlo.training.saved import labels, read_history
from tests.histories import history


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (*RANK_VARIABLES, *SIZE_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    for name, run in (("a", history(3)), ("b", history(2)), ("empty", {"epochs": [], "outcome": "failed: no"})):
        write_history(Path(f"{name}_history.json"), {**run, "trial": name})
    Path("text.json").write_text("nothing")
    Path("other.json").write_text('{"cells": []}')
    Path("list.json").write_text("[1]")
    Path("odd.json").write_text(json.dumps({**history(1), "seconds": "long"}))
    Path("there.png").touch()
    return tmp_path


def left(*argv: str) -> int:
    with pytest.raises(SystemExit) as ended:
        PlotHistory.main(argv)
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        ("", ["name the history"]),
        ("gone_history.json", ["gone_history.json: cannot read (No such file"]),
        (".", [".: cannot read (Is a directory)"]),
        ("text.json", ["text.json: not a JSON file"]),
        ("there.png", ["there.png: not a JSON file"]),
        ("other.json", ["other.json: not the history of a run"]),
        ("list.json", ["list.json: not the history of a run"]),
        ("odd.json", ["odd.json: not the history of a run"]),
        (
            "a_history.json empty_history.json",
            ["empty_history.json: the run ended before its first epoch", "failed: no"],
        ),
        ("a_history.json ./a_history.json", ["a_history.json is named twice"]),
        ("a_history.json --metric top5", ["--metric top5", "a_history.json has loss, acc"]),
        ("a_history.json --x steps", ["--x", "epochs, seconds, samples"]),
        ("a_history.json --labels x,y", ["--labels has 2 names for 1 file"]),
        ("a_history.json b_history.json --labels x,x", ["--labels", "twice"]),
        ("a_history.json --output there.png", ["--output there.png: already there", "--overwrite"]),
        ("a_history.json --output x.gif", ["--output x.gif", ".png, .pdf or .svg"]),
        ("a_history.json --report there.png", ["--report there.png: already there", "--overwrite"]),
        ("a_history.json b_history.json --report r.html", ["--report", "one file"]),
        ("a_history.json --report x.svg --output x.svg", ["--report x.svg is the --output as well"]),
        ("a_history.json --report a_history.json --overwrite", ["a_history.json is the history itself"]),
        ("a_history.json --output text.json/x.png", ["text.json/x.png: cannot write"]),
    ],
)
def test_each_bad_input_is_one_line(
    argv: str, parts: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    assert left(*argv.split()) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("PlotHistory: ") and err.count("\n") == 1
    assert [part for part in parts if part not in err] == []
    assert sorted(folder.rglob("*")) == before


def test_it_runs_without_mpirun(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PMI_SIZE", "2")
    assert left("a_history.json") == 2
    assert "without mpirun" in capsys.readouterr().err


def test_without_matplotlib_a_report_alone_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nnlo.training.plots.style.installed", lambda: False)
    assert left("a_history.json") == 2
    assert "pip install 'nnlo[plot]'" in capsys.readouterr().err
    assert left("a_history.json", "--report", "r.html") == 0
    assert "Learning" in Path("r.html").read_text() and not Path("curves.png").exists()


def test_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert left("a_history.json") == 0 and capsys.readouterr().out == "curves.png\n"
    one = Path("curves.png").read_bytes()
    assert left("a_history.json") == 2 and Path("curves.png").read_bytes() == one
    assert left("a_history.json", "b_history.json", "--overwrite") == 0
    assert Path("curves.png").read_bytes() not in (one, b"")


def svg(*argv: str) -> str:
    pytest.importorskip("matplotlib")
    assert left(*argv, "--output", "x.svg", "--overwrite") == 0
    return Path("x.svg").read_text()


def test_options_reach_the_picture() -> None:
    both = "a_history.json", "b_history.json"
    plain = svg(*both)
    assert "Accuracy, training" in plain and ">epoch<" in plain and ">a   1.000<" not in plain
    assert ">a   0.6667<" in plain and ">b   1.000<" in plain
    assert "seconds of training" in svg(*both, "--x", "seconds")
    assert "Accuracy" not in svg(*both, "--metric", "loss")
    assert ">left   0.6667<" in svg(*both, "--labels", "left,right")
    assert ">mine<" in svg("a_history.json", "--labels", "mine", "--x", "samples")
    assert "samples trained" in Path("x.svg").read_text()


def test_picture_and_report_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    assert left("a_history.json", "--report", "new/r.html", "--output", "new/c.pdf") == 0
    assert capsys.readouterr().out.split() == ["new/c.pdf", "new/r.html"]
    assert Path("new/c.pdf").read_bytes().startswith(b"%PDF")


def test_every_flag_has_a_sentence_of_help() -> None:
    actions = [one for one in PlotHistory.command().parser._actions if "--no-overwrite" not in one.option_strings]
    assert [one.dest for one in actions if len(str(one.help).split()) < 3] == []


def test_names_are_trials_else_files_else_paths() -> None:
    def named(**trials: Any) -> list[str]:
        return labels({Path(path): {"trial": trial} for path, trial in trials.items()})

    assert named(**{"x_history.json": "1", "y_history.json": "2"}) == ["1", "2"]
    assert named(**{"x_history.json": "1", "y_history.json": "1"}) == ["x", "y"]
    assert named(**{"p/x_history.json": "1", "q/x_history.json": "1"}) == ["p/x_history.json", "q/x_history.json"]
    assert named(**{"x_history.json": None}) == ["x"]


@pytest.mark.parametrize(
    "change",
    [{"epochs": [1]}, {"epochs": [{}]}, {"arguments": 3}, {"hosts": "a"}, {"validations": 3}, {"ranks": True},
     {"epochs": [{"epoch": 1, "ranks": {"1": 3}}]}, {"epochs": [{"epoch": 1, "staleness": {"histogram": [0.5]}}]},
     {"epochs": [{"epoch": 1, "training_set": 3}]}, {"epochs": [{"epoch": 1, "usages": {"1": "many"}}]},
     {"workers": {"1": 3}}, {"monitor": {"0": {"seconds": 3}}},
     {"seeds": {"ranks": 3}}, {"stop_reason": 3}],
)  # fmt: skip
def test_what_is_like_a_history_and_is_none(change: dict[str, Any]) -> None:
    Path("x.json").write_text(json.dumps({**history(1), **change}))
    with pytest.raises(DataError, match=r"x\.json: not the history"):
        read_history(Path("x.json"))


def test_a_history_comes_back(folder: Path) -> None:
    assert read_history(folder / "a_history.json") == {**history(3), "trial": "a"}
