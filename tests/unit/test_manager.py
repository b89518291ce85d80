"""What a manager offers after a training, and before one."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from nnlo import Algo, MPIManager
from tests.jobs import Built, Rows, labelled


def manager(val_list: list[str] | None) -> MPIManager:
    data, builder = Rows(*labelled(40), 8), Built(lambda: nn.Linear(8, 4))
    return MPIManager(None, data, Algo("sgd"), builder, 2, ["all"], val_list, output=None)


def test_the_figure_of_merit_is_the_last_validation_loss_or_else_the_training_loss() -> None:
    for val_list, name in ((["all"], "val_loss"), (None, "loss")):
        made = manager(val_list)
        assert made.figure_of_merit() is None
        history = made.train()
        assert history is not None
        assert made.figure_of_merit() == history["epochs"][-1][name]


def test_details_are_the_history(tmp_path: Path) -> None:
    made = manager(["all"])
    made.record_details(tmp_path / "details.json")
    assert not (tmp_path / "details.json").exists()
    history = made.train()
    made.record_details(tmp_path / "details.json")
    assert history is not None
    assert json.loads((tmp_path / "details.json").read_text())["epochs"] == history["epochs"]
