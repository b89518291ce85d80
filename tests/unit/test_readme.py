"""What the README shows is what there is: its code runs, its flags exist."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from nnlo import Algo, H5Data, ModelPytorch, MPIManager
from nnlo.drivers.TrainingDriver import command

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def block(word: str) -> str:
    (found,) = [text for text in BLOCKS if word in text]
    return found


def test_the_example_is_the_file() -> None:
    assert block("class Spirals").strip() == (ROOT / "examples" / "own_model.py").read_text().strip()


def test_every_flag_exists() -> None:
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    elsewhere = {"--source", "--rounds", "--out"}  # of GetData and of the benchmarks
    known = {option for action in command().parser._actions for option in action.option_strings}
    assert flags - elsewhere <= known
    assert len(flags & known) > 8


def test_the_model_file_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_model.py").write_text(block("def get_train"))
    x = np.random.default_rng(0).normal(size=(256, 8)).astype(np.float32)
    with h5py.File("part.h5", "w") as file:
        file["features"], file["labels"] = x, x.sum(1, keepdims=True)
    Path("train.list").write_text("part.h5\n")
    builder = ModelPytorch(None, "my_model.py")
    data, algo = H5Data(64), Algo("adam", lr=0.01, loss="mse")
    history = MPIManager(None, data, algo, builder, 5, builder.source.train_list, None, output=None).train()
    assert history is not None
    assert history["epochs"][-1]["loss"] < 0.8 * history["epochs"][0]["loss"]


def test_the_virtual_clock(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block("VirtualWorld"), "README", "exec"), {})
    staleness = eval(capsys.readouterr().out)
    assert staleness["max"] >= 7
