"""TrainingDriver's flags for callbacks: each leaves what it should, and is in the closing summary."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nnlo.callbacks import Callback, CSVLogger, load_callback
from nnlo.errors import OptionsError
from tests.unit import test_driver

OK, folder, refused, trained = test_driver.OK, test_driver.folder, test_driver.refused, test_driver.trained
VALIDATED = [*OK, "--val-data", "train.list", "--trial-name", "t"]

MINE = """
from nnlo import Callback, Data
from pathlib import Path

class Mine(Callback):
    def on_epoch_end(self, epoch, logs):
        Path("mine").write_text(f"{epoch} {logs['epoch']}")

class Other(Mine):
    def on_train_end(self, logs):
        Path("other").touch()

class Needs(Callback):
    def __init__(self, what):
        pass

class Raises(Callback):
    def __init__(self):
        raise ValueError("no such disk")

class Fails(Callback):
    def on_epoch_end(self, epoch, logs):
        raise LookupError(epoch)

instance = Mine()
number = 3
"""


@pytest.fixture(autouse=True)
def mine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnlo.training.files.draw", lambda history, path: False)
    for name in ("mine_here.py", "below/mine_there.py"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(MINE)


@pytest.mark.parametrize(
    ("argv", "left"),
    [
        ("--csv", ["mlp_t_metrics.csv"]),
        ("--jsonl", ["mlp_t_metrics.jsonl"]),
        ("--save-best val_loss,max", ["mlp_t_best.safetensors", "mlp_t_best.pt"]),
        ("--tensorboard runs", ["runs/mlp_t"]),
    ],
)
def test_each_flag_leaves_its_files(
    argv: str, left: list[str], refused: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    if "tensorboard" in argv:
        pytest.importorskip("tensorboard")
    usual = {"mlp_t_history.json", "mlp_t_weights.safetensors", "mlp_t_weights.pt"}
    trained(*VALIDATED, *argv.split())
    assert set(capsys.readouterr().out.split("\n  ")[1:]) == {*usual, *left[:-1], f"{left[-1]}\n"}
    assert all(Path(name).exists() for name in left)
    for name in usual:
        Path(name).unlink()
    assert Path(left[0]).name in refused(*VALIDATED, *argv.split())
    trained(*VALIDATED, *argv.split(), "--overwrite")


def test_the_history_holds_the_flags() -> None:
    flags = {"csv": True, "jsonl": False, "save_best": ["val_acc", "max"], "callback": ["mine_here:Mine"]}
    trained(*VALIDATED, "--csv", "--save-best", "val_acc,max", "--callback", "mine_here:Mine")
    arguments = test_driver.history("mlp_t_history.json")["arguments"]
    assert {name: arguments[name] for name in flags} == flags


def test_a_run_without_the_flags_leaves_the_usual_files_alone() -> None:
    before = set(Path().iterdir())
    trained(*VALIDATED)
    assert {path.name for path in set(Path().iterdir()) - before} == {
        f"mlp_t_{name}" for name in ("history.json", "weights.safetensors", "weights.pt")
    }


def test_log_lr(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(
        "nnlo.training.loggers.learning_rate.LOG.info", lambda form, *args, **_: said.append(form % args)
    )
    trained(*VALIDATED, "--lr", "0.125", "--log-lr")
    assert "epoch 1: learning rate 0.125" in said


def test_callbacks_of_ones_own() -> None:
    trained(*VALIDATED, "--callback", "below/mine_there.py:Mine,mine_here:Other,nnlo.callbacks:CSVLogger")
    assert Path("mine").read_text() == "0 1"
    assert Path("other").exists() and Path("mlp_t_metrics.csv").exists()


def test_in_a_config_file() -> None:
    settings = {"csv": True, "save-best": ["val_acc", "max"], "callback": ["mine_here:Mine"]}
    Path("run.yaml").write_text(json.dumps(settings))
    trained(*VALIDATED, "--config", "run.yaml")
    assert all(Path(name).exists() for name in ("mlp_t_metrics.csv", "mlp_t_best.pt", "mine"))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ("--callback gone_away:Mine", "--callback gone_away:Mine: ModuleNotFoundError: No module named 'gone_away'"),
        ("--callback gone.py:Mine", "--callback gone.py:Mine: file 'gone.py' is not there, give module:Class or"),
        ("--callback mine_here:Gone", "--callback mine_here:Gone: 'mine_here' has no Class 'Gone', give module:Class"),
        ("--callback mine_here:number", "--callback mine_here:number: 'mine_here' has no Class 'number'"),
        ("--callback mine_here:instance", "--callback mine_here:instance: 'mine_here' has no Class 'instance'"),
        ("--callback mine_here:Data", "--callback mine_here:Data: Data is not a callback: make it a subclass of nnlo"),
        ("--callback mine_here", "--callback mine_here: give module:Class or file.py:Class"),
        ("--callback mine_here:Needs", "--callback mine_here:Needs: TypeError: Needs.__init__() missing 1 required"),
        ("--callback mine_here:Raises", "--callback mine_here:Raises: ValueError: no such disk"),
        ("--callback mine_here:Mine,mine_here:Raises", "--callback mine_here:Raises: ValueError: no such disk"),
        ("--csv --callback nnlo.callbacks:CSVLogger", "callbacks: mlp_t_metrics.csv has a writer already"),
        ("--save-best val_speed", "--save-best val_speed: not measured: choose one of loss, acc, val_loss, val_acc"),
        ("--save-best acc,up", "--save-best: unknown direction 'up': choose one of min, max"),
        ("--save-best acc,max,3", "--save-best takes METRIC, METRIC,min or METRIC,max, not 'acc,max,3'"),
    ],
)
def test_each_bad_input_is_one_line(argv: str, said: str, refused: Any) -> None:
    assert refused(*VALIDATED, *argv.split()).startswith(said)


def test_a_folder_of_curves_that_cannot_be(refused: Any) -> None:
    pytest.importorskip("tensorboard")
    said = refused(*VALIDATED, "--tensorboard", "file/runs")
    assert said.startswith("--tensorboard file/runs: cannot write there")


def test_the_best_validation_needs_one(refused: Any) -> None:
    assert "val_ figures need --val-data" in refused(*OK, "--save-best", "val_loss")


def test_a_callback_that_raises_is_named() -> None:
    with pytest.raises(LookupError) as caught:
        test_driver.TrainingDriver.main([*VALIDATED, "--callback", "mine_here:Fails"])
    assert caught.value.__notes__ == ["raised by callback Fails, on_epoch_end"]


def test_a_callback_that_cannot_write_is_one_line_and_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    Path("full.py").write_text(
        "from nnlo.callbacks import CSVLogger\n"
        "class Full(CSVLogger):\n    def __init__(self):\n        super().__init__('/dev/full')\n"
    )
    with pytest.raises(SystemExit) as left:
        test_driver.TrainingDriver.main([*VALIDATED, "--overwrite", "--callback", "full.py:Full"])
    assert left.value.code == 1
    assert "TrainingDriver: callback Full, on_epoch_end: /dev/full: cannot write (No space" in capsys.readouterr().err


def test_loading_by_name_in_python() -> None:
    assert isinstance(load_callback("nnlo.callbacks:CSVLogger"), CSVLogger)
    assert isinstance(load_callback("mine_here.py:Mine"), Callback)
    with pytest.raises(OptionsError, match=r"^--callback nnlo:Data: Data is not a callback"):
        load_callback("nnlo:Data")
