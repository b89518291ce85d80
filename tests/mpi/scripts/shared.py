"""What the scenarios of by_the_book.py share: a manager with the usual settings, a training, and the verdict."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from blobs import FILES, SAMPLES, SEEN, Builder
from mpi4py import MPI

from nnlo import Algo, Data, MPIManager

COMM = MPI.COMM_WORLD
FOLDER = Path(sys.argv[1])
WORKERS = max(1, COMM.size - 1)
EPOCHS = 3
TRAIN = [str(FOLDER / f"blobs{number}.npz") for number in range(FILES)]
VALIDATE = TRAIN[:2]
Seen = list[list[int]]


def manager_of(data: Data, algo: Algo | None = None, builder: Any = None, **settings: Any) -> MPIManager:
    """A manager with the settings that most scenarios share."""
    given = {"num_epochs": EPOCHS, "train_list": TRAIN, "val_list": VALIDATE, "output": None} | settings
    return MPIManager(COMM, data, algo or Algo("adam", lr=0.05), builder or Builder(COMM), **given)


def train(manager: MPIManager) -> tuple[Any, Seen]:
    """The history (None but on rank 0) and the samples that each worker trained on, in their order."""
    SEEN.clear()
    history = manager.train()
    assert (history is None) == (COMM.rank != 0), "the history is rank 0's"
    seen = COMM.allgather(SEEN)
    return history, seen[-WORKERS:]


def assert_each_sample_once_an_epoch(seen: Seen, epochs: int = EPOCHS) -> None:
    assert sorted(number for worker in seen for number in worker) == sorted(list(range(SAMPLES)) * epochs)


def last(history: Any) -> dict[str, float]:
    """The last epoch's entry; everywhere, so that all ranks assert alike."""
    entry: dict[str, float] = COMM.bcast(history["epochs"][-1] if history else None)
    return entry


def learned(history: Any) -> str:
    accuracy = last(history)["val_acc"]
    assert accuracy > 0.85, accuracy
    return f"{SAMPLES} samples an epoch, val_acc {accuracy:.2f}"


def refused(what: Callable[[], object]) -> str:
    """The message of the error that `what` raises."""
    try:
        what()
    except Exception as error:
        message = str(error)
        assert "\n" not in message, f"one line: {message}"
        return message
    raise AssertionError("not refused")


def verdict(scenario: Callable[[], str]) -> bool:
    """Prints the scenario's line; whether it went well on every rank."""
    said, wrong = "", None
    try:
        said = scenario()
    except Exception:
        wrong = f"rank {COMM.rank}: {traceback.format_exc()}"
        print(wrong, file=sys.stderr, flush=True)  # others may be waiting for this rank elsewhere
    failures = [text for text in COMM.allgather(wrong) if text]
    if COMM.rank == 0:
        name = scenario.__name__.replace("_", " ")
        print(f"FAILED {name}: {failures[0]}" if failures else f"ok {name}: {said}", flush=True)
    return not failures
