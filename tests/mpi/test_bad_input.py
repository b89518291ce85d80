"""Wrong use and failures over mpirun: what is said, by whom, with which exit code, and that every process is gone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import h5py
import pytest

from tests.jobs import labelled
from tests.mpi.bodies import START, bodies_test
from tests.mpi.launch import Job, Result

SOON = 5.0
"""Seconds from the moment that a fault is told until every process is gone."""
DRIVER = "TrainingDriver"

test_ranks_refuse_alike = bodies_test("bodies_bad_input.py", ranks=(3,))
test_the_driver_refuses = bodies_test("bodies_driver.py", ranks=(3,), others=())


def ended(program: Sequence[str | Path], folder: Path, marker: str, mpi: str = "mpich") -> Result:
    """Run to the end; from `marker` on stderr to the end of the last process it may take SOON."""
    with Job(3, program, mpi=mpi, cwd=folder) as job:
        deadline = time.monotonic() + 2 * START
        while marker not in job.result().stderr and job.process.poll() is None:
            assert time.monotonic() < deadline, job.result()
            time.sleep(0.02)
        told = time.monotonic()
        result = job.finish(timeout=SOON)
        assert time.monotonic() - told < SOON, result
    return result


def refused(arguments: Sequence[str | Path], folder: Path, mpi: str = "mpich") -> str:
    """The one line that TrainingDriver says of these arguments; nothing is left in `folder`/out."""
    out = folder / "out"
    result = ended([DRIVER, "--output", out, *arguments], folder, f"{DRIVER}:", mpi)
    said = [line for line in result.stderr.splitlines() if line.startswith(f"{DRIVER}:")]
    assert result.code == 2, result
    assert len(said) == 1, result
    assert "Traceback" not in result.stderr and "nnlo:" not in result.stderr, result
    assert not out.exists(), list(out.iterdir())
    return said[0]


def write_h5(path: Path, rows: int = 60) -> Path:
    x, y = labelled(rows)
    with h5py.File(path, "w") as file:
        file["features"], file["labels"] = x, y
    return path


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """A list of two good files, in tmp_path."""
    for name in ("a.h5", "b.h5"):
        write_h5(tmp_path / name)
    (tmp_path / "train.list").write_text("a.h5\nb.h5\n")
    return tmp_path / "train.list"


def test_number_out_of_range(tmp_path: Path) -> None:
    assert refused(["--batch", "0"], tmp_path) == f"{DRIVER}: --batch must be at least 1, not 0"


def test_help_is_printed_once(tmp_path: Path) -> None:
    result = ended([DRIVER, "--help"], tmp_path, "nothing")
    assert result.code == 0 and result.stdout.count("usage:") == 1 and not result.stderr, result


ON_ONE_RANK = """
import os, sys
from nnlo.launcher import launched_rank
if launched_rank() == 1:
    os.chdir("/")
from nnlo.drivers.TrainingDriver import main
main(sys.argv[1:])
"""


def test_what_one_rank_cannot_read_ends_all(tmp_path: Path, lists: Path) -> None:
    """As a file on a disk that one host does not have."""
    (tmp_path / "start.py").write_text(ON_ONE_RANK)
    (tmp_path / "run.yaml").write_text("epochs: 3\n")
    arguments = ["--config", "run.yaml", "--train-data", lists, "--output", "out"]
    result = ended([tmp_path / "start.py", *map(str, arguments)], tmp_path, f"{DRIVER}:")
    assert result.code == 2, result
    assert result.stderr.count(f"{DRIVER}: --config run.yaml: No such file") == 1, result
    assert "Traceback" not in result.stderr and not (tmp_path / "out").exists(), result


SCRIPT = """
import numpy as np, os, sys, torch
from mpi4py import MPI
from nnlo import Algo, Callback, Data, ModelBuilder, MPIManager

comm = MPI.COMM_WORLD

class Lines(Data):
    def load_data(self, file):
        {load}
        return np.ones((30, 8), np.float32), np.zeros(30, np.int64)

class Net(torch.nn.Linear):
    steps = 0
    def forward(self, x):
        if self.training:
            self.steps += 1
            {forward}
        return super().forward(x)

class Builder(ModelBuilder):
    def build_model(self):
        return Net(8, 4)

class Hook(Callback):
    def on_epoch_end(self, epoch, logs):
        {hook}
    def close(self):
        {close}

manager = MPIManager(comm, Lines(5), Algo("sgd", lr=0.1), Builder(comm), 40, ["a", "b"], None,
                     callbacks=[Hook()], output=None)
{before}
manager.train()
"""
HARMLESS = {"load": "pass", "forward": "pass", "hook": "pass", "close": "pass", "before": "pass"}


def script(folder: Path, **parts: str) -> list[Path]:
    path = folder / "job.py"
    path.write_text(SCRIPT.format(**HARMLESS | parts))
    return [path]


def failed(result: Result, error: str) -> None:
    """Exit code 1, and `error` is told in one traceback."""
    assert result.code == 1, result
    assert result.stderr.count("Traceback") == 1 and result.stderr.count(error) == 1, result


def test_exception_in_forward_after_some_steps(tmp_path: Path, mpi: str) -> None:
    program = script(tmp_path, forward="assert comm.rank != 2 or self.steps < 4, f'step {self.steps}'")
    result = ended(program, tmp_path, "AssertionError: step 4", mpi)
    failed(result, "AssertionError: step 4")
    assert "nnlo: rank 2 on " in result.stderr, result


def test_exception_in_load_data(tmp_path: Path) -> None:
    result = ended(script(tmp_path, load="raise KeyError('pixels')"), tmp_path, "KeyError: 'pixels'")
    failed(result, "KeyError: 'pixels'")
    assert "nnlo: rank 0 on " in result.stderr, result


def test_exception_in_a_callback(tmp_path: Path) -> None:
    program = script(tmp_path, hook="raise LookupError(f'epoch {epoch}')", close="open('closed', 'x').close()")
    result = ended(program, tmp_path, "LookupError: epoch 0")
    failed(result, "LookupError: epoch 0")
    assert "nnlo: rank 0 on " in result.stderr, result
    assert result.stderr.count("raised by callback Hook, on_epoch_end") == 1, result
    assert (tmp_path / "closed").exists()


def test_rank_that_never_trains(tmp_path: Path, mpi: str) -> None:
    result = ended(script(tmp_path, before="if comm.rank == 1: sys.exit()"), tmp_path, "nnlo:", mpi)
    said = [line for line in result.stderr.splitlines() if line.startswith("nnlo:")]
    assert result.code == 1, result
    assert len(said) == 1 and "rank 1" in said[0] and "call train()" in said[0], result
    assert "Traceback" not in result.stderr, result


def test_rank_that_fails_before_it_trains(tmp_path: Path) -> None:
    result = ended(script(tmp_path, before="if comm.rank == 1: 1 / 0"), tmp_path, "nnlo:")
    failed(result, "ZeroDivisionError: division by zero")
    assert "call train()" not in result.stderr, "the traceback says what there is to mend"


def test_rank_that_fails_before_it_has_a_manager(tmp_path: Path, mpi: str) -> None:
    path = tmp_path / "job.py"
    path.write_text(
        "from mpi4py import MPI\n"
        "import nnlo\n"
        "comm = MPI.COMM_WORLD\n"
        "if comm.rank == 1:\n"
        "    raise FileNotFoundError('no samples here')\n"
        "comm.barrier()\n"
    )
    result = ended([path], tmp_path, "FileNotFoundError: no samples here", mpi)
    failed(result, "FileNotFoundError: no samples here")
