"""The lines of the README over real mpirun: what they reach and what they leave."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nnlo.data.prepare import prepare
from nnlo.model import load_model
from tests.mpi.launch import Result, launch

ROOT = Path(__file__).parents[2]
MNIST = Path(os.environ.get("NNLO_TEST_MNIST") or ROOT / "../shared/data/mnist")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for prepared data that holds the digits and no MNIST."""
    folder = tmp_path_factory.mktemp("data")
    prepare("digits", folder)
    return folder


def history_of(folder: Path) -> dict:
    (path,) = folder.glob("*_history.json")
    return json.loads(path.read_text())


def trained(result: Result, folder: Path) -> dict:
    assert result.code == 0, result
    return history_of(folder)


def test_the_literal_line_learns_the_digits_and_leaves_its_files(mpi: str, home: Path, tmp_path: Path) -> None:
    command = ["TrainingDriver", "--model", "mnist"]
    result = launch(3, command, mpi=mpi, timeout=110, cwd=tmp_path, env={"NNLO_DATA": str(home)})
    history = trained(result, tmp_path)
    assert "digits" in result.stderr  # says what it trains on
    assert history["outcome"] == "done"
    assert history["ranks"] == 3
    assert [entry["epoch"] for entry in history["epochs"]] == list(range(1, 21))
    passed = [entry["samples"] - 1437 * entry["epoch"] for entry in history["epochs"]]
    assert all(0 <= late < 50 for late in passed)  # an epoch ends with the batch of 50 that passes its end
    assert passed[-1] == 0
    assert history["epochs"][-1]["val_acc"] >= 0.97
    assert sum(history["epochs"][-1]["staleness"]["histogram"]) == history["epochs"][-1]["updates"] > 0
    for path in re.findall(r"^ +(\S+)$", result.stdout, re.MULTILINE):
        assert (tmp_path / path).stat().st_size > 0
    check_weights(tmp_path)
    (picture,) = tmp_path.glob("*_curves.png")
    assert picture.read_bytes().startswith(b"\x89PNG")


def check_weights(folder: Path) -> None:
    """Both files of weights load into a fresh model, and hold the same."""
    (plain,), (safe,) = folder.glob("*_weights.pt"), folder.glob("*_weights.safetensors")
    state = torch.load(plain, weights_only=True)
    load_model("mnist").get_model().load_state_dict(state)
    other = load_file(safe)
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST in {MNIST}: name its folder in NNLO_TEST_MNIST")
@pytest.mark.timeout(300)
def test_mnist_in_one_epoch(tmp_path: Path) -> None:
    env = {"NNLO_DATA": str(tmp_path / "data")}
    made = launch(1, ["GetData", "mnist", "--source", str(MNIST)], mpi="mpich", timeout=100, env=env)
    assert made.code == 0, made
    flags = ["--epochs", "1", "--loss", "categorical_crossentropy", "--output", str(tmp_path / "out")]
    command = ["TrainingDriver", "--model", "mnist", *flags]
    history = trained(launch(3, command, mpi="mpich", timeout=180, env=env), tmp_path / "out")
    assert history["train_samples"] == 60_000
    assert history["epochs"][-1]["val_acc"] >= 0.95


def test_the_example_of_a_library_user(tmp_path: Path) -> None:
    result = launch(3, str(ROOT / "examples" / "own_model.py"), mpi="mpich", timeout=60, cwd=tmp_path)
    assert result.code == 0, result
    (accuracy,) = re.findall(r"validation accuracy ([\d.]+)", result.stdout)
    assert float(accuracy) >= 0.97
    assert not list(tmp_path.iterdir())


def test_the_driver_runs_as_a_script_and_waits_hot_where_told(home: Path, tmp_path: Path) -> None:
    script = str(ROOT / "drivers" / "TrainingDriver.py")
    flags = ["--epochs", "1", "--wait", "spin", "--synchronous", "--output", str(tmp_path)]
    result = launch(2, [script, *flags], mpi="mpich", timeout=60, env={"NNLO_DATA": str(home)})
    history = trained(result, tmp_path)
    assert history["arguments"]["wait"] == "spin"
    assert history["epochs"][0]["staleness"]["max"] == 0


def test_without_mpirun(home: Path, tmp_path: Path) -> None:
    flags = ["--epochs", "2", "--output", str(tmp_path)]
    result = launch(1, ["TrainingDriver", *flags], mpi="mpich", timeout=60, env={"NNLO_DATA": str(home)})
    assert trained(result, tmp_path)["epochs"][-1]["samples"] == 2 * 1437
