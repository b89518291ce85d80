"""Drivers, told what cannot work: one line of one rank, the same exit code on all, and nothing is left."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import h5py
import numpy as np
from mpi4py import MPI

from nnlo.drivers import OptimizationDriver, TrainingDriver
from tests.mpi.bodies_bad_input import on_rank_0, shared_folder, write_h5

TRAINING = "TrainingDriver"
SMALL = ("--model", "mlp", "--model-params", "inputs=8,hidden=4,classes=4", "--batch", "5", "--epochs", "50")
DATA = ("--train-data", "train.list")


@contextmanager
def lists(comm: MPI.Comm, prepare: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """A folder to be in, with a list of two good files; `prepare` adds to it, on rank 0."""

    def fill() -> None:
        for name in ("a.h5", "b.h5"):
            write_h5(Path(name))
        Path("train.list").write_text("a.h5\nb.h5\n")
        prepare()

    before = Path.cwd()
    with shared_folder(comm) as folder:
        os.chdir(folder)
        try:
            on_rank_0(comm, fill)
            yield folder
        finally:
            os.chdir(before)


def ended(
    comm: MPI.Comm, arguments: Sequence[str], code: int, main: Callable[[Sequence[str]], None] = TrainingDriver.main
) -> str:
    """What all ranks together write to stderr; each ends with this code."""
    heard, found = io.StringIO(), None
    with redirect_stderr(heard), redirect_stdout(io.StringIO()):
        try:
            main(arguments)
        except SystemExit as end:
            found = end.code
    codes, texts = comm.allgather(found), comm.allgather(heard.getvalue())
    assert set(codes) == {code}, (codes, texts)
    return "".join(texts)


def refused(comm: MPI.Comm, *arguments: str) -> str:
    """The one line that is said; no file is written."""
    said = ended(comm, ["--output", "out", *arguments], 2).splitlines()
    assert len(said) == 1 and said[0].startswith(f"{TRAINING}: "), said
    assert not Path("out").exists()
    return said[0]


def body_unknown_option(comm: MPI.Comm) -> None:
    said = refused(comm, "--batch_size", "3")
    assert said == f"{TRAINING}: unknown option --batch-size: did you mean --batch?"


def body_every_bad_file_of_a_list_is_named(comm: MPI.Comm) -> None:
    def spoil() -> None:
        Path("text.h5").write_text("not HDF5\n" * 100)
        write_h5(Path("cut.h5"), rows=5000)
        os.truncate("cut.h5", os.path.getsize("cut.h5") // 2)
        Path("train.list").write_text("a.h5\ntext.h5\ngone.h5\ncut.h5\n")

    with lists(comm, spoil):
        said = refused(comm, *SMALL, *DATA)
        assert all(name in said for name in ("text.h5", "gone.h5", "cut.h5")) and "a.h5" not in said


def body_model_file_that_raises(comm: MPI.Comm) -> None:
    broken = "import torch\n\nraise RuntimeError('no such layer')\n"
    with lists(comm, lambda: Path("broken.py").write_text(broken) and None):
        said = refused(comm, "--model", "broken.py", *DATA)
        assert "broken.py" in said and "line 3" in said and "RuntimeError: no such layer" in said


def spoilt(name: str, values: np.ndarray) -> None:
    """Put these values into both files."""
    for path in ("a.h5", "b.h5"):
        with h5py.File(path, "a") as file:
            del file[name]
            file[name] = values


def body_output_of_a_network_that_does_not_fit_the_labels(comm: MPI.Comm) -> None:
    with lists(comm, lambda: spoilt("labels", np.eye(60, 7, dtype=np.float32))):
        said = refused(comm, *SMALL, *DATA)
        assert "(2, 4)" in said and "(2, 7)" in said


def body_names_of_files_that_exist(comm: MPI.Comm) -> None:
    with lists(comm, lambda: Path("mlp_mine_history.json").write_text("precious") and None):
        said = ended(comm, [*SMALL, *DATA, "--trial-name", "mine"], 2)
        assert said.count(f"{TRAINING}:") == 1 and "--overwrite" in said, said
        assert [path.name for path in Path().glob("mlp_*")] == ["mlp_mine_history.json"]
        assert Path("mlp_mine_history.json").read_text() == "precious"


def body_non_finite_gradients_in_a_row(comm: MPI.Comm) -> None:
    with lists(comm, lambda: spoilt("features", np.full((60, 8), np.nan, dtype=np.float32))):
        for count, flags in ((10, ""), (3, "--max-bad-updates 3"), (4, "--mode allreduce --max-bad-updates 4")):
            heard = ended(comm, [*SMALL, *DATA, "--output", "out", "--overwrite", *flags.split()], 1)
            said = [line for line in heard.splitlines() if line.startswith(f"{TRAINING}:")]
            assert len(said) == 1 and f" {count} updates in a row" in said[0] and "--lr" in said[0], heard
            assert "Traceback" not in heard, heard


def body_searches_that_cannot_work(comm: MPI.Comm) -> None:
    known = "neither a parameter of model 'mlp' (hidden, layers, inputs, classes) nor an option of training"
    spaces = {"strange.yaml": "depth: [1, 2]", "empty.yaml": "", "crossed.yaml": "lr: {low: 1.0, high: 0.1}"}

    def prepare() -> None:
        for name, text in spaces.items():
            Path(name).write_text(text)

    cases = {
        "--figure-of-merit val_auc,max": "--figure-of-merit val_auc: not measured: choose one of loss, acc",
        "--figure-of-merit val_loss": "--figure-of-merit val_loss: not measured",  # there is no list to validate on
        "--figure-of-merit loss --ga-populations 4": "--ga-populations is read by --hyper-opt genetic alone: drop it",
        "--figure-of-merit loss --block-size 3": "3 ranks are not a coordinator and blocks of 3: start 4 or 7",
        "--figure-of-merit loss --block-size 1": "--block-size must be at least 2, not 1",
        "--figure-of-merit loss --restore x": "--restore is for one training: give --opt-restore",
        "--figure-of-merit loss --pruner asha --n-fold 2": "--pruner asha looks at one training a trial",
        "--figure-of-merit loss --pruner best": "unknown pruner 'best': choose one of",
        "--figure-of-merit loss --search-space strange.yaml": f"has depth, which is {known}",
        "--figure-of-merit loss --search-space empty.yaml": "--search-space empty.yaml: ",
        "--figure-of-merit loss --search-space crossed.yaml": "--search-space crossed.yaml: lr: ",
    }
    with lists(comm, prepare):
        for flags, wanted in cases.items():
            given = [*SMALL, *DATA, "--output", "out", *flags.split()]
            said = ended(comm, given, 2, OptimizationDriver.main).splitlines()
            assert len(said) == 1 and said[0].startswith("OptimizationDriver: ") and wanted in said[0], (flags, said)
            assert not Path("out").exists()
