"""TrainingDriver in one process: each bad input is one line and exit code 2, and nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnlo.drivers import GetData, TrainingDriver
from nnlo.launcher import RANK_VARIABLES
from tests.driving import write_h5
from tests.jobs import labelled

ROOT = Path(__file__).parents[2]
MLP = ["--model", "mlp", "--model-params", "inputs=8,hidden=4,classes=4"]
DATA = ["--train-data", "train.list"]
OK = [*MLP, *DATA, "--batch", "10", "--epochs", "1", "--log-level", "warning"]
Driver = Callable[..., str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: two HDF5 files, lists of good and of bad ones, and no MPI."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TrainingDriver, "together", lambda work, undo: work())
    monkeypatch.setattr(TrainingDriver, "world_comm", lambda: None)
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    x, y = labelled(60)
    write_h5("a.h5", features=x[:40], labels=y[:40])
    write_h5("b.h5", features=x[40:], labels=y[40:])
    write_h5("uneven.h5", features=x, labels=y[:50])
    write_h5("one_hot.h5", features=x, labels=np.eye(7, dtype=np.float32)[y])
    write_h5("empty.h5", features=x[:0], labels=y[:0])
    Path("text.h5").write_text("nothing\n" * 100)
    Path("cut.h5").write_bytes(Path("a.h5").read_bytes()[:3000])
    lists = {"train": "a.h5\nb.h5\n", "none": "\n", "uneven": "uneven.h5", "seven": "one_hot.h5", "zero": "empty.h5"}
    for name, content in {**lists, "bad": "a.h5\ngone.h5\ntext.h5\ncut.h5\n"}.items():
        Path(f"{name}.list").write_text(content)
    Path("file").touch()
    return tmp_path


@pytest.fixture
def refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> Driver:
    """What TrainingDriver says of arguments that it refuses, without its name."""

    def said(*argv: str) -> str:
        before = sorted(folder.rglob("*"))
        with pytest.raises(SystemExit) as left:
            TrainingDriver.main(argv)
        out, err = capsys.readouterr()
        assert left.value.code == 2 and not out
        assert err.startswith("TrainingDriver: ") and err.count("\n") == 1
        assert sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts) == before
        return err.removeprefix("TrainingDriver: ").rstrip("\n")

    return said


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        ("--train_data gone.list", ["--train-data gone.list", "No such file"]),
        ("--train_data none.list", ["--train-data none.list", "empty"]),
        ("--train_data .", ["--train-data .", "directory"]),
        ("--train_data cut.h5", ["--train-data cut.h5"]),
        ("--val_data gone.list", ["--val-data", "gone.list"]),
        ("--train_data bad.list", ["gone.h5: no such file", "text.h5: ", "not an HDF5 file", "cut.h5: ", "truncated"]),
        ("--train_data uneven.list", ["uneven.h5", "different lengths", "60", "50"]),
        ("--train_data zero.list", ["--train-data", "no sample"]),
        ("--train_data seven.list", ["(2, 4)", "(2, 7)"]),
        ("--features-name pixels", ["a.h5", "'pixels'", "features, labels"]),
        ("--labels-name digits", ["a.h5", "'digits'", "features, labels"]),
        ("--batch 0", ["--batch must be at least 1, not 0"]),
        ("--batch -5", ["--batch must be at least 1, not -5"]),
        ("--batch ten", ["--batch must be a whole number, not 'ten'"]),
        ("--epochs 0", ["--epochs must be at least 1, not 0"]),
        ("--epochs 1.5", ["--epochs must be a whole number"]),
        ("--sync-every 0", ["--sync-every must be at least 1, not 0"]),
        ("--sync-every -1", ["--sync-every must be at least 1, not -1"]),
        ("--local-lr 0.1", ["--local-lr", "--sync-every 2"]),
        ("--validate-every 0", ["--validate-every must be at least 1, not 0"]),
        ("--shuffle-buffer 0", ["--shuffle-buffer must be at least 1, not 0"]),
        ("--seed -1", ["--seed must be at least 0, not -1"]),
        ("--lr -1", ["--lr must be at least 0"]),
        ("--lr nan", ["--lr must be a finite number"]),
        ("--model resnet", ["unknown model 'resnet'", "mlp, mnist", ".py"]),
        ("--model gone.py", ["gone.py", "not there"]),
        ("--model mnist --model-params dense=5", ["(2, 8)"]),
        ("--model-params hiden=3", ["mlp", "no parameter 'hiden'", "hidden"]),
        ("--model-params hidden", ["--model-params", "key=value"]),
        ("--loss crossentropy2", ["crossentropy2", "categorical_crossentropy"]),
        ("--metrics acc,speed", ["speed", "acc"]),
        ("--optimizer sdg", ["--optimizer: unknown value 'sdg'", "adam, adamw"]),
        ("--optimizer adam --momentum 0.9", ["'adam' has no setting 'momentum'", "betas", "--sync-every"]),
        ("--optimizer-params bates=3", ["no setting 'bates'", "betas"]),
        ("--optimizer-params betas=0.9", ["optimizer 'adam'"]),
        ("--mode easdg", ["--mode: unknown value 'easdg': choose one of allreduce, choco"]),
        ("--wait hot", ["--wait", "sleep, spin"]),
        ("--bacth 3", ["unknown option --bacth: did you mean --batch?"]),
        ("--l 3", ["--l is short for several options", "--loss", "--lr"]),
        ("--output file/runs", ["--output file/runs", "cannot write"]),
        ("--output /proc/nnlo", ["--output /proc/nnlo", "cannot write"]),
        ("--trial-name a/b", ["--trial-name 'a/b'"]),
        ("--log-file gone/x.log", ["--log-file gone/x.log"]),
        ("--log-level loud", ["--log-level", "debug, info"]),
        ("--verbose", ["--verbose shows more and --log-level warning less"]),
        ("--monitor 0", ["--monitor must be at least 0.01, not 0"]),
        ("--monitor often", ["--monitor must be a number, not 'often'"]),
        ("--config gone.yaml", ["--config gone.yaml"]),
        ("--config file.py", ["--config"]),
    ],
)
def test_each_bad_input_is_one_line(argv: str, parts: list[str], refused: Driver) -> None:
    said = refused(*OK, *argv.split())
    for part in parts:
        assert part in said


def test_validation_data_alone_are_refused(refused: Driver) -> None:
    assert "--train-data" in refused(*MLP, "--val-data", "train.list")


def test_good_files_are_not_named_among_bad_ones(refused: Driver) -> None:
    assert "a.h5" not in refused(*OK, "--train-data", "bad.list")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("import nowhere_at_all\n", ["line 1", "nowhere_at_all"]),
        ("def get_model(:\n", ["line 1", "SyntaxError"]),
        ("def make():\n    pass\n", ["get_model"]),
        ("def get_model():\n    return 1 / 0\n", ["line 2", "ZeroDivisionError"]),
        ("def get_model():\n    return 'no'\n", ["str", "Module"]),
        ("def get_model():\n    pass\nget_model.defaults = {'batsch': 3}\n", ["get_model.defaults", "mean batch?"]),
        ("def get_model():\n    pass\nget_model.defaults = {'loss': 3}\n", ["get_model.defaults", "--loss"]),
        ("def get_model():\n    pass\nget_model.defaults = {'output': 'x'}\n", ["get_model.defaults", "--output is"]),
        ("def get_model():\n    pass\nget_model.defaults = {'train_data': 'x'}\n", ["--train-data is for the command"]),
    ],
)
def test_bad_model_files(content: str, parts: list[str], refused: Driver) -> None:
    Path("own.py").write_text(content)
    said = refused(*DATA, "--model", "own.py")
    for part in ["own", *parts]:
        assert part in said


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("epoch_s: 3\n", "unknown option 'epoch_s': did you mean epochs?"),
        ("epochs: [\n", "give a YAML file of options"),
        ("epochs: 0\n", "--epochs must be at least 1, not 0"),
        ("- epochs\n", "expected lines of the form"),
    ],
)
def test_bad_config_files(content: str, part: str, refused: Driver) -> None:
    Path("run.yaml").write_text(content)
    said = refused(*MLP, *DATA, "--config", "run.yaml")
    assert said.startswith("--config run.yaml: ") and part in said


def history(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(name).read_text())
    return found


def trained(*argv: str) -> None:
    with pytest.raises(SystemExit) as left:
        TrainingDriver.main(argv)
    assert left.value.code == 0


def test_names_that_exist_are_refused_without_overwrite(refused: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    trained(*OK, "--trial-name", "t")
    printed = capsys.readouterr().out
    assert "mlp: 1 epoch in" in printed and "mlp_t_history.json" in printed
    before = Path("mlp_t_history.json").read_text()
    assert "mlp_t_history.json" in refused(*OK, "--trial-name", "t")
    assert Path("mlp_t_history.json").read_text() == before
    trained(*OK, "--trial-name", "t", "--overwrite")
    assert Path("mlp_t_history.json").read_text() != before


def test_flag_over_config_over_model_over_default() -> None:
    Path("own.py").write_text(
        "import torch\ndef get_model():\n    return torch.nn.Linear(8, 4)\n"
        "get_model.defaults = {'epochs': 3, 'batch': 20, 'lr': 0.5, 'optimizer': 'SGD'}\n"
        "def get_train():\n    return 'train.list'\n"
    )
    Path("run.yaml").write_text("epochs: 2\nbatch: 30\ntrial-name: t\nlog_level: error\n")
    trained("--model", "own.py", "--config", "run.yaml", "--batch", "15")
    arguments = history("own_t_history.json")["arguments"]
    assert (arguments["batch"], arguments["epochs"], arguments["seed"]) == (15, 2, 0)
    assert arguments["optimizer"]["name"] == "sgd" and arguments["optimizer"]["lr"] == 0.5
    trained("--model", "own.py", "--config", "run.yaml", "--optimizer", "momentum", "--over", "--no-fused")
    optimizer = history("own_t_history.json")["arguments"]["optimizer"]
    assert (optimizer["name"], optimizer["lr"], optimizer["fused"]) == ("momentum", 0.01, False)


def test_old_name_of_the_mode() -> None:
    trained(*OK, "--mode", "sgd", "--trial-name", "t", "--sync_every", "2")
    arguments = history("mlp_t_history.json")["arguments"]
    assert (arguments["mode"], arguments["sync_every"]) == ("downpour", 2)


def test_every_flag_has_a_sentence_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    for action in TrainingDriver.command().parser._actions:
        assert action.help and (len(action.help.split()) > 2 or action.option_strings[0].startswith("--no-")), action
    with pytest.raises(SystemExit):
        TrainingDriver.main(["--help"])
    text = capsys.readouterr().out
    groups = ["Model", "Data", "Training", "Optimizer", "Learning rate", "Downpour SGD (--mode downpour)", "Output"]
    places = [text.index(f"\n{group}:\n") for group in groups]
    assert places == sorted(places)


def test_no_weights_where_none_are_wanted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mlp_t_weights.pt").write_bytes(b"old")
    trained(*OK, "--trial-name", "t", "--no-save-model")
    assert Path("mlp_t_weights.pt").read_bytes() == b"old" and not Path("mlp_t_weights.safetensors").exists()
    said = capsys.readouterr().out
    assert "mlp_t_history.json" in said and "weights" not in said


def test_a_report_where_one_is_wanted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained(*OK, "--trial-name", "plain")
    trained(*OK, "--trial-name", "t<b>", "--report")
    assert "  mlp_t<b>_report.html\n" in capsys.readouterr().out
    assert "t&lt;b&gt;" in Path("mlp_t<b>_report.html").read_text()
    assert not Path("mlp_plain_report.html").exists()


def test_get_data_names_the_sets(capsys: pytest.CaptureFixture[str]) -> None:
    for argv, said in (([], "GetData digits or GetData mnist"), (["digit"], "choose one of cifar10, digits, mnist")):
        with pytest.raises(SystemExit) as left:
            GetData.main(argv)
        assert left.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize("script", ["TrainingDriver.py", "GetData.py", "PlotHistory.py"])
def test_drivers_run_as_scripts(script: str) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, ROOT / "drivers" / script, "--nonsense"], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    name = script.removesuffix(".py")
    assert done.stderr == f"{name}: unknown option --nonsense: {name} --help lists the options\n"


def test_a_watched_run_leaves_its_timeline_and_its_load(capsys: pytest.CaptureFixture[str]) -> None:
    trained(*OK, "--trial-name", "t", "--timeline", "--monitor", "0.5")
    assert "  mlp_t_timeline.json\n" in capsys.readouterr().out
    assert json.loads(Path("mlp_t_timeline.json").read_text())["traceEvents"]
    found = history("mlp_t_history.json")
    assert found["monitor"]["0"]["memory_bytes"] and found["arguments"]["monitor"] == 0.5


def test_a_timeline_of_before_is_neither_lost_nor_shown(refused: Driver, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mlp_t_timeline.json").touch()
    assert "mlp_t_timeline.json already there" in refused(*OK, "--trial-name", "t", "--timeline")
    trained(*OK, "--trial-name", "t")
    assert "timeline" not in capsys.readouterr().out


def test_verbose_shows_what_debug_shows(capsys: pytest.CaptureFixture[str]) -> None:
    trained(*MLP, *DATA, "--epochs", "1", "--trial-name", "t", "--verbose")
    assert "batches 0 to 0" in capsys.readouterr().err
