"""A user's program, written from the description of the library alone: it uses each name and each way once.

    mpirun -np 3 python tests/mpi/scripts/by_the_book.py FOLDER [--forget]

Rank 0 prints a line for each scenario, which begins with `ok` or with `FAILED`; the exit code is 1 if one failed.
With --forget the last rank ends without training in the end, which ends the job with exit code 1 and a line.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import blobs
import torch
from blobs import ROWS, Builder, InTurn, Loads
from data_scenarios import by_files, h5_files, in_turn, shards_itself
from shared import (
    COMM,
    EPOCHS,
    FOLDER,
    VALIDATE,
    assert_each_sample_once_an_epoch,
    last,
    learned,
    manager_of,
    refused,
    train,
    verdict,
)

from nnlo import Algo, Callback, ModelPytorch, MPIManager


class Notes(Callback):
    """Writes down which hooks are called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_train_begin(self, logs: dict[str, Any]) -> None:
        self.calls.append("train begins")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        assert {"loss", "acc", "val_loss", "val_acc"} <= set(logs), logs
        self.calls.append(f"epoch {epoch}")

    def on_train_end(self, logs: dict[str, Any]) -> None:
        self.calls.append("train ends")


def load_data() -> str:
    """All that a run gives back, and what it leaves."""
    notes, output = Notes(), FOLDER / "load_data"
    manager = manager_of(Loads(7), output=output, trial_name="first", callbacks=[notes], seed=3, verbose=True)
    assert not output.exists(), "constructing starts nothing"
    history, seen = train(manager)
    assert_each_sample_once_an_epoch(seen)
    assert seen[0][:20] != sorted(seen[0][:20]), "shuffled"
    if COMM.rank == 0:
        assert notes.calls == ["train begins", *(f"epoch {epoch}" for epoch in range(EPOCHS)), "train ends"]
        check_what_is_left(manager, history, output)
    else:
        assert notes.calls == [], "callbacks are run on rank 0"
    manager.close()
    return learned(history)


def check_what_is_left(manager: MPIManager, history: Any, output: Path) -> None:
    """`manager.model` holds the final weights, and the history can be had as JSON."""
    x, y = (torch.as_tensor(array) for array in blobs.samples(0, 2 * ROWS))
    model = manager.model.eval()
    loss = torch.nn.functional.cross_entropy(model(x), y).item()
    assert abs(loss - history["epochs"][-1]["val_loss"]) < 1e-5
    assert abs(manager.figure_of_merit() - loss) < 1e-5
    manager.record_details(str(FOLDER / "details.json"))
    epochs = json.loads(json.dumps(history["epochs"]).replace("NaN", "null"))  # a mean of a rank without a batch
    assert json.loads((FOLDER / "details.json").read_text())["epochs"] == epochs
    assert any("first" in path.name for path in output.iterdir())


def synchronous() -> str:
    """The same seed gives the same weights, another one others; `validate_every` adds validations."""
    weights, history = [], None
    for seed in (1, 1, 2):
        algo = Algo("sgd", mode="sgd", lr=0.2, synchronous=True, validate_every=5)
        manager = manager_of(Loads(7), algo, seed=seed)
        history, seen = train(manager)
        shares = [len(worker) for worker in seen]
        assert max(shares) - min(shares) < 2 * 7 * EPOCHS, f"sharded by samples: {shares}"
        weights.append(COMM.bcast(manager.model.dense.weight.tolist() if history else None))
    assert weights[0] == weights[1] != weights[2]
    assert COMM.bcast(len(history["epochs"]) if history else None) == EPOCHS
    assert COMM.bcast(len(history["validations"]) if history else None) > EPOCHS
    return learned(history)


def model_file() -> str:
    """The weights of one training are where the next one starts."""
    source = Path(__file__).with_name("blobs_model.py")
    first = manager_of(Loads(7), builder=ModelPytorch(COMM, str(source), scale=0.5), schedule=lambda epoch: 0.9**epoch)
    history, _ = train(first)
    if COMM.rank == 0:
        torch.save(first.model.state_dict(), FOLDER / "weights.pt")
    COMM.barrier()
    second = ModelPytorch(COMM, str(source), weights=str(FOLDER / "weights.pt"))
    again, _ = train(manager_of(Loads(7), Algo("sgd", lr=0.0), second, num_epochs=1, schedule="cosine"))
    before, after = last(history)["val_loss"], last(again)["val_loss"]
    assert abs(before - after) < 1e-6, (before, after)
    return learned(again)


class Stops(Callback):
    """Stops the training after its second epoch."""

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        self.manager.stop_training = self.manager.stop_training or epoch == 1


def stopping() -> str:
    """By patience, by a target and by a callback, of 50 epochs."""
    still, moving = {"lr": 0.0}, {"lr": 0.05}
    ways = (
        (still, {"early_stopping": "val_loss,~<,2"}),
        (moving, {"target_metric": "val_accuracy,>,0.6"}),
        (moving, {"callbacks": [Stops()]}),
    )
    managers = [
        manager_of(Loads(7), Algo("adam", synchronous=True, **rate), num_epochs=50, **setting) for rate, setting in ways
    ]
    ends = []
    for manager in managers:
        history, _ = train(manager)
        ends.append(COMM.bcast(len(history["epochs"]) if history else None))
    assert ends[0] < 50 and ends[1:] == [2, 3], ends
    return f"after {ends} of 50 epochs"


def side_by_side() -> str:
    """Every second rank trains in a group of its own."""
    group = COMM.Split(COMM.rank % 2)
    settings = {"val_data": Loads(7), "output": None}
    manager = MPIManager(group, InTurn(7), Algo("adam"), Builder(group), EPOCHS, [], VALIDATE, 1, 1, **settings)
    history = manager.train()
    assert (history is None) == (group.rank != 0)
    assert history is None or len(history["epochs"]) == EPOCHS
    return f"groups of {sorted(set(COMM.allgather(group.size)))} ranks"


def closed_without_training() -> str:
    manager = manager_of(Loads(7), output=FOLDER / "never")
    manager.close()
    assert not (FOLDER / "never").exists()
    return "nothing written"


def unknown_names() -> str:
    assert "nesterow" in refused(lambda: Algo("sgd", nesterow=True))
    assert "elastic_force" in refused(lambda: Algo("sgd", elastic_force=0.5))
    assert "val_f1" in refused(lambda: manager_of(Loads(7), early_stopping="val_f1,<,3").train())
    return "each with one line"


SCENARIOS = (
    load_data,
    by_files,
    in_turn,
    shards_itself,
    h5_files,
    synchronous,
    model_file,
    stopping,
    side_by_side,
    closed_without_training,
    unknown_names,
)


def forget() -> None:
    """The last rank makes a manager and leaves without training, while the others train."""
    manager = manager_of(Loads(7))
    if COMM.rank < COMM.size - 1:
        manager.train()


def main() -> int:
    if COMM.rank == 0:
        blobs.write_files(FOLDER)
    COMM.barrier()
    well = [verdict(scenario) for scenario in SCENARIOS]
    if "--forget" in sys.argv:
        forget()
    return 0 if all(well) else 1


if __name__ == "__main__":
    sys.exit(main())
