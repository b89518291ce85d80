"""TrainingDriver in this process on small HDF5 files in the current folder: its history, or what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nnlo.drivers import TrainingDriver
from nnlo.launcher import RANK_VARIABLES
from tests.jobs import labelled

MODEL = ["--model", "mlp", "--model-params", "inputs=8,hidden=4,classes=4", "--train-data", "train.list"]
COMMON = [*MODEL, "--batch", "10", "--log-level", "warning", "--trial-name", "t", "--overwrite"]


def write_h5(name: str, **arrays: np.ndarray[Any, Any]) -> None:
    with h5py.File(name, "w") as file:
        for key, array in arrays.items():
            file[key] = array


def prepare_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """train.list and val.list of two files of 40 and 20 samples, and no MPI."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(TrainingDriver, "together", lambda work, undo: work())
    monkeypatch.setattr(TrainingDriver, "world_comm", lambda: None)
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    x, y = labelled(60)
    write_h5("a.h5", features=x[:40], labels=y[:40])
    write_h5("b.h5", features=x[40:], labels=y[40:])
    Path("train.list").write_text("a.h5\nb.h5\n")
    Path("val.list").write_text("b.h5\n")
    monkeypatch.setattr("nnlo.training.files.draw", lambda history, path: False)  # takes longer than the training


def run_driver(*argv: str) -> dict[str, Any]:
    """The history that these flags leave."""
    with pytest.raises(SystemExit) as left:
        TrainingDriver.main([*COMMON, *argv])
    assert left.value.code == 0
    found: dict[str, Any] = json.loads(Path("mlp_t_history.json").read_text())
    return found


def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the driver says of flags that it refuses, in one line and without its name."""

    def said(*argv: str) -> str:
        with pytest.raises(SystemExit) as left:
            TrainingDriver.main([*COMMON, *argv])
        out, err = capsys.readouterr()
        assert left.value.code == 2 and not out
        assert err.startswith("TrainingDriver: ") and err.count("\n") == 1
        return err.removeprefix("TrainingDriver: ").rstrip("\n")

    return said
