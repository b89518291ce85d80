"""Jobs that are told to leave, or killed, and go on from their last checkpoint."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from nnlo.comm.virtual import VirtualWorld
from tests.golden.test_replay import repeatable
from tests.jobs import same_bits, train_here
from tests.mpi.launch import Job, Result, launch

SCRIPTS = Path(__file__).parent / "scripts"
EPOCHS = 10
RANK = {"mpich": b"PMI_RANK=", "openmpi": b"OMPI_COMM_WORLD_RANK="}


def job(mpi: str, np: int, folder: Path, name: str, *flags: str) -> Job:
    line = ["TrainingDriver", "--model", "mnist", "--epochs", str(EPOCHS), "--output", str(folder)]
    return Job(np, [*line, "--trial-name", name, "--overwrite", *flags], mpi=mpi)


def ended(mpi: str, np: int, folder: Path, name: str, *flags: str) -> Result:
    with job(mpi, np, folder, name, *flags) as running:
        return running.finish(60)


def begun(folder: Path, number: int) -> None:
    """Wait for the checkpoint of that number."""
    deadline = time.monotonic() + 30
    while not (folder / f"{number:06d}").exists():
        assert time.monotonic() < deadline, "no checkpoint"
        time.sleep(0.01)


def process_of(running: Job, mpi: str, rank: int) -> int:
    """The id of a rank's process."""
    for pid in running.processes():
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if RANK[mpi] + str(rank).encode() in variables:
            return pid
    raise AssertionError(f"no process of rank {rank}")


def history(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"mnist_{name}_history.json").read_text())
    return found


def test_a_signal_ends_a_job_after_a_checkpoint_and_it_goes_on_bit_for_bit(tmp_path: Path, mpi: str) -> None:
    """Over MPICH one worker gets the signal, over Open MPI the launcher."""
    mode = ["--synchronous"] if mpi == "mpich" else ["--mode", "allreduce"]
    assert ended(mpi, 3, tmp_path, "whole", *mode).code == 0
    base = tmp_path / "cp"
    again = [*mode, "--checkpoint", str(base), "--checkpoint-interval", "2", "--restore", "auto"]
    with job(mpi, 3, tmp_path, "again", *again) as running:
        begun(base, 1)
        if mpi == "mpich":
            os.kill(process_of(running, mpi, 2), signal.SIGUSR1)
        else:
            running.send_signal(signal.SIGUSR1)
        left = running.finish(30)
    assert left.code == 85, left
    assert "TrainingDriver: stopped by" in left.stderr and "--restore auto goes on from there" in left.stderr
    told = json.loads((base / "status.json").read_text())
    assert told["state"] == "preempted" and told["exit_code"] == 85 and told["checkpoint"] in os.listdir(base)
    assert history(tmp_path, "again")["outcome"] == "preempted"
    result = ended(mpi, 3, tmp_path, "again", *again)
    assert result.code == 0, result
    whole, resumed = (load_file(tmp_path / f"mnist_{name}_weights.safetensors") for name in ("whole", "again"))
    assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert len(history(tmp_path, "again")["epochs"]) == EPOCHS
    (point,) = history(tmp_path, "again")["restored"]
    assert point["checkpoint"] == str(base / told["checkpoint"])


def test_a_run_is_repeated_on_ranks_and_on_the_virtual_clock(tmp_path: Path, mpi: str) -> None:
    result = launch(4, [str(SCRIPTS / "recorded.py"), str(tmp_path)], mpi=mpi, timeout=60)
    assert result.code == 0 and result.stdout == "same\n", result
    again = train_here(VirtualWorld(4), **repeatable(), replay=tmp_path / "r")
    assert same_bits(torch.load(tmp_path / "weights.pt", weights_only=True), again.state)


def test_a_killed_job_goes_on_with_another_number_of_workers(tmp_path: Path, mpi: str) -> None:
    base = tmp_path / "cp"
    flags = ["--checkpoint", str(base), "--checkpoint-interval", "1", "--restore", "auto"]
    with job(mpi, 3, tmp_path, "a", *flags) as running:
        begun(base, 2)
        running.kill()
    result = ended(mpi, 4, tmp_path, "a", *flags)
    assert result.code == 0, result
    found = history(tmp_path, "a")
    assert [entry["epoch"] for entry in found["epochs"]] == list(range(1, EPOCHS + 1))
    assert found["epochs"][-1]["samples"] == EPOCHS * found["train_samples"]
    assert found["ranks"] == 4 and found["restored"][0]["ranks"] == 3
    assert found["epochs"][-1]["val_acc"] > 0.9
