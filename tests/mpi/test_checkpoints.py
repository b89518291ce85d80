"""Jobs that are told to leave and go on from their last checkpoint; and a run that is repeated."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from nnlo.comm.virtual import VirtualWorld
from tests.golden.test_replay import repeatable
from tests.golden.test_restoring import SAMPLES, sgd
from tests.jobs import same_bits, train_here
from tests.mpi.launch import Result, launch

SCRIPT = Path(__file__).parent / "scripts" / "stopping.py"
EPOCHS = 4


def job(mpi: str, np: int, folder: Path, what: str, mode: dict[str, Any]) -> Result:
    return launch(np, [str(SCRIPT), str(folder), what, json.dumps(mode)], mpi=mpi, timeout=60)


def weights(folder: Path, what: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / f"{what}.pt", weights_only=True)
    return found


def history(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "again.json").read_text())
    return found


def test_a_job_is_told_to_leave_and_goes_on_bit_for_bit_and_another_is_repeated(tmp_path: Path, mpi: str) -> None:
    """Over MPICH one worker gets the signal, over Open MPI the launcher."""
    mode = sgd(synchronous=True) if mpi == "mpich" else sgd(mode="allreduce")
    left = job(mpi, 4, tmp_path, "repeated,whole,told", mode)
    assert left.code == 85, left
    told = json.loads((tmp_path / "cp" / "status.json").read_text())
    assert (
        told["state"] == "preempted" and told["exit_code"] == 85 and told["checkpoint"] in os.listdir(tmp_path / "cp")
    )
    result = job(mpi, 4, tmp_path, "again", mode)
    assert result.code == 0, result
    assert same_bits(weights(tmp_path, "whole"), weights(tmp_path, "again"))
    (point,) = history(tmp_path)["restored"]
    assert point["checkpoint"] == str(tmp_path / "cp" / told["checkpoint"]) and point["samples"] < EPOCHS * SAMPLES
    assert "repeated\n" in left.stdout and "not repeated" not in left.stdout
    virtual = train_here(VirtualWorld(4), **repeatable(), replay=tmp_path / "r")
    assert same_bits(weights(tmp_path, "repeated"), virtual.state)
