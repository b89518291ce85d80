"""What people bring along from NNLO: its flags, its example of a model file, its script from a checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nnlo.data.prepare import prepare
from nnlo.drivers import TrainingDriver
from nnlo.launcher import RANK_VARIABLES
from nnlo.model import load_model

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "example_mnist_torch.py"

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, without MPI; prepared data are kept below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NNLO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(TrainingDriver, "together", lambda work, undo: work())
    monkeypatch.setattr(TrainingDriver, "world_comm", lambda: None)
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def left(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as end:
        TrainingDriver.main([*argv, "--log-level", "warning"])
    return end.value.code, capsys.readouterr().err


def test_its_flags_are_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = prepare("digits")
    line = f"--train_data {done.train_list} --val_data {done.test_list} --features_name features --labels_name labels"
    line += " --backend torch --thread_validation --trial_name t --batch 200 --epochs 1 --sync_every 2 --mode sgd"
    line += " --model mlp --loss categorical_crossentropy --optimizer adam --synchronous --log_file run.log"
    assert left(capsys, *line.split())[0] == 0
    arguments = json.loads(Path("mlp_t_history.json").read_text())["arguments"]
    assert (arguments["batch"], arguments["sync_every"], arguments["synchronous"]) == (200, 2, True)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--backend", "keras"], "--backend: unknown value 'keras': choose one of torch"),
        (["--no-thread-validation"], "--no-thread-validation: validation always runs beside the training: drop it"),
    ],
)
def test_what_does_not_hold_is_refused(flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, err = left(capsys, *flags)
    assert code == 2 and said in err and err.count("\n") == 1


def test_the_example_of_a_model_file() -> None:
    source = load_model(EXAMPLE)
    assert source.name == "example_mnist"
    assert source.data_sets == ("mnist", "digits")
    x = torch.rand(2, 28, 28, 1)
    assert source.get_model()(x).shape == (2, 10)
    for one in source.parameter_range:
        for end in one.bounds:
            assert source.get_model(**{one.name: end})(x).shape == (2, 10)
    assert source.get_model(dropout=0.1).dropout.p == 0.1


def test_the_example_trains(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model", str(EXAMPLE), "--model-params", "maps=4,dense=16", "--epochs", "6", "--trial-name", "t"]
    assert left(capsys, *words, "--lr", "0.01")[0] == 0
    epochs = json.loads(Path("example_mnist_t_history.json").read_text())["epochs"]
    assert epochs[-1]["val_acc"] > 0.8


def test_the_script_of_a_checkout_runs_from_another_folder(folder: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    script, flags = ROOT / "drivers" / "TrainingDriver.py", ["--epochs", "1", "--trial-name", "t", "--batch", "400"]
    done = subprocess.run(
        [sys.executable, script, "--model", "mlp", *flags], env=env, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert "mlp: 1 epoch in" in done.stdout and (folder / "mlp_t_history.json").is_file()
