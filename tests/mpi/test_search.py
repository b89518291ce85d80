"""OptimizationDriver over real mpirun: searches on blocks of ranks, killed, told to leave and gone on with."""

from __future__ import annotations

import csv
import os
import signal
import time
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest

from nnlo.data.prepare import prepare
from nnlo.optimize.record import read_record
from nnlo.optimize.trial import Status, Trial
from nnlo.training.checkpoint.contents import RECORD
from nnlo.training.checkpoint.store import newest
from tests.mpi.launch import Job, Result, available, launch

DRIVER = "OptimizationDriver"
EPOCHS = 40  # enough for a trial to be told in the midst of it
SPACE = "width: {type: integer, low: 4, high: 32}\nlr: {low: 1.0e-4, high: 1.0e-1, log: true}\n"
MODEL = """
import os, signal, torch
from pathlib import Path

rank = os.environ.get("PMIX_RANK") or os.environ.get("PMI_RANK")

def dies(name):
    if not Path(name).exists():
        Path(name).touch()
        os.kill(os.getpid(), signal.SIGKILL)

class Net(torch.nn.Sequential):
    steps = 0
    def forward(self, x):
        self.steps += self.training
        {forward}
        return super().forward(x)

def get_model(width=8):
    {before}
    return Net(torch.nn.Flatten(), torch.nn.Linear(784, width), torch.nn.Linear(width, 10))

get_model.data_sets = ("digits",)
get_model.defaults = {{"loss": "categorical_crossentropy", "batch": 50}}
"""


def model(before: str = "pass", forward: str = "pass") -> str:
    return MODEL.format(before=before, forward=forward)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for prepared data that holds the digits."""
    folder = tmp_path_factory.mktemp("data")
    prepare("digits", folder)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "model.py").write_text(model())
    return tmp_path


def line(*flags: str, epochs: int = 2, trials: int = 4) -> list[str]:
    given = ["--model", "model.py", "--search-space", "space.yaml", "--checkpoint", "base"]
    return [DRIVER, *given, "--epochs", str(epochs), "--num-iterations", str(trials), *flags]


def searched(folder: Path, home: Path, *flags: str, np: int = 5, **how: Any) -> Result:
    return launch(np, line(*flags, **how), timeout=100, cwd=folder, env={"NNLO_DATA": str(home)})


def trials(folder: Path) -> dict[int, Trial]:
    found = read_record(folder / "base")
    return {} if found is None else {trial.number: trial for trial in found.trials}


def test_the_literal_line_leaves_all_that_it_should(home: Path, tmp_path: Path) -> None:
    command = [DRIVER, "--model", "mnist", "--block-size", "3", "--epochs", "2", "--num-iterations", "4"]
    result = launch(7, command, timeout=110, cwd=tmp_path, env={"NNLO_DATA": str(home)})
    assert result.code == 0, result
    assert "4/4 trials" in result.stderr and "best of 4 trials: #" in result.stdout, result
    left = tmp_path / "mnist_search"
    assert {path.name for path in left.iterdir()} == {
        "trials.jsonl", "results.csv", "best_command.sh", "best_weights.safetensors", "best_weights.pt",
        "best.png", "parallel.png", "dependence.png", "blocks.png",
    }  # fmt: skip
    with open(left / "results.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["done"] * 4
    assert {int(row["kernel_size"]) for row in rows} <= set(range(2, 8))
    assert float(rows[0]["figure"]) == min(float(row["figure"]) for row in rows)
    assert (left / "best_command.sh").read_text().startswith("mpirun -np 3 TrainingDriver --model mnist --epochs 2")


@pytest.mark.alone
@pytest.mark.parametrize("sign", [signal.SIGUSR1, signal.SIGKILL])
def test_a_search_that_was_stopped_goes_on(sign: signal.Signals, home: Path, folder: Path) -> None:
    """Trials that had ended are kept; those that were running go on from their own checkpoints."""
    flags = ("--checkpoint-interval", "1", "--opt-restore")
    with Job(5, line(*flags, epochs=EPOCHS, trials=3), cwd=folder, env={"NNLO_DATA": str(home)}) as job:
        deadline = time.monotonic() + 60
        while not in_the_midst(folder):
            assert time.monotonic() < deadline and job.process.poll() is None, job.result()
            time.sleep(0.02)
        if sign is signal.SIGKILL:
            for pid in job.processes():
                os.kill(pid, sign)
        else:
            job.send_signal(sign)
        result = job.finish(timeout=20)
    before = trials(folder)
    done = {number: trial for number, trial in before.items() if trial.status is Status.DONE}
    if sign is signal.SIGUSR1:
        assert result.code == 85 and f"{DRIVER}: stopped by SIGUSR1: --opt-restore goes on" in result.stderr, result
    running = [trial.number for trial in before.values() if trial.status is Status.RUNNING]
    kept = {number: figures_kept(folder / "base" / f"trial-{number:04d}") for number in running}
    assert any(kept.values()), "one was running that had a checkpoint"
    again = searched(folder, home, *flags, epochs=EPOCHS, trials=3)
    assert again.code == 0, again
    after = trials(folder)
    assert [after[number].status for number in range(3)] == [Status.DONE] * 3
    assert all(after[number] == trial for number, trial in done.items())
    for number, figures in kept.items():
        assert len(after[number].figures) == EPOCHS
        if len(figures) < EPOCHS:  # one whose end was not recorded is trained anew
            assert list(after[number].figures[: len(figures)]) == figures
    assert f"goes on after {len(done)} trial" in again.stderr, again


def in_the_midst(folder: Path) -> bool:
    """Whether one trial has ended, and another one that runs has a checkpoint."""
    known = trials(folder).values()
    running = [trial.number for trial in known if trial.status is Status.RUNNING]
    kept = any(any((folder / "base" / f"trial-{number:04d}").glob("0*")) for number in running)
    return kept and any(trial.status is Status.DONE for trial in known)


def figures_kept(folder: Path) -> list[float]:
    """Those of the epochs that the last checkpoint of a trial has behind it."""
    saved = newest(folder)
    return [entry["val_loss"] for entry in saved.tree(RECORD)["history"]["epochs"]] if saved else []


def test_trials_fail_alone(home: Path, folder: Path) -> None:
    """One that cannot be built, and one that raises on one rank in the midst of its training."""
    late = "assert not (len(self[1].bias) == 10 and rank in '24' and self.steps > 9), 'too late'"
    (folder / "model.py").write_text(model("assert width != 8, f'{width} is too narrow'", late))
    (folder / "space.yaml").write_text("width: [8, 16, 24, 10]\n")
    result = searched(folder, home, "--hyper-opt", "grid")
    assert result.code == 0, result
    found = {trial.parameters["width"]: trial for trial in trials(folder).values()}
    assert {width: trial.status for width, trial in found.items()} == {
        8: Status.FAILED, 10: Status.FAILED, 16: Status.DONE, 24: Status.DONE,
    }  # fmt: skip
    assert "8 is too narrow" in str(found[8].reason) and "AssertionError: too late" in str(found[10].reason)
    assert "Traceback" not in result.stderr, result


@pytest.mark.skipif("openmpi" not in available(), reason="Open MPI is not installed here")
def test_other_blocks_do_what_a_lost_one_had(home: Path, folder: Path) -> None:
    """A worker of the first block dies, and the block goes on without it; then the master of the second block dies."""
    worker = "rank == '2' and self.training and self.steps > 5 and dies('worker')"
    master = "rank == '4' and not self.training and Path('worker').exists() and dies('master')"
    (folder / "model.py").write_text(model(forward=f"{worker}; {master}"))
    command, flags = line("--block-size", "3", trials=6), ("--with-ft", "ulfm")
    env = {"NNLO_DATA": str(home)}
    result = launch(7, command, mpi="openmpi", flags=flags, timeout=100, cwd=folder, env=env)
    assert result.code == 0, result
    assert (folder / "worker").exists() and (folder / "master").exists()
    assert [trial.status for trial in trials(folder).values()] == [Status.DONE] * 6
    assert result.stderr.count("block 2 is lost: rank 4 is lost") == 1, result


def test_folds_are_trained_side_by_side(home: Path, folder: Path) -> None:
    result = searched(folder, home, "--block-size", "4", "--n-fold", "2", trials=2)
    assert result.code == 0, result
    for trial in trials(folder).values():
        assert (
            trial.status is Status.DONE and len(trial.folds) == 2 and trial.figure == pytest.approx(fmean(trial.folds))
        )
        assert trial.spread == pytest.approx(pstdev(trial.folds))


def test_pruned_trials_rest_and_the_best_go_on(home: Path, folder: Path) -> None:
    result = searched(folder, home, "--pruner", "asha:reduction=2", epochs=4, trials=8)
    assert result.code == 0, result
    found = trials(folder).values()
    assert {trial.status for trial in found} == {Status.DONE, Status.PRUNED}
    assert all(len(trial.figures) == 4 for trial in found if trial.status is Status.DONE)
    assert all(len(trial.figures) in (1, 2) for trial in found if trial.status is Status.PRUNED)
    assert not list((folder / "base").glob("trial-*")), "what does not go on leaves no checkpoints"


def test_ranks_that_do_not_divide_are_refused(home: Path, folder: Path) -> None:
    result = searched(folder, home, "--block-size", "3")
    own = [text for text in result.stderr.splitlines() if text.startswith(f"{DRIVER}: ")]
    assert result.code == 2 and len(own) == 1, result
    assert "--block-size 3: 5 ranks are not a coordinator and blocks of 3: start 4 or 7" in own[0]
    assert not (folder / "base").exists()
