"""Teams of ranks and heads of masters over real MPI."""

from __future__ import annotations

import json
from pathlib import Path

import h5py

from tests.jobs import labelled
from tests.mpi.bodies import bodies_test
from tests.mpi.launch import launch

test_teams = bodies_test("bodies_teams.py", ranks=(5,), seconds=60.0)
test_trees = bodies_test("bodies_trees.py", ranks=(7,), seconds=60.0, others=())

MODEL = ["TrainingDriver", "--model", "mlp", "--model-params", "inputs=8,hidden=4,classes=4", "--train-data", "x.list"]


def prepared(folder: Path) -> Path:
    x, y = labelled(60)
    with h5py.File(folder / "x.h5", "w") as file:
        file["features"], file["labels"] = x, y
    (folder / "x.list").write_text("x.h5\n")
    return folder


def test_a_tree_of_teams_by_its_flags(tmp_path: Path) -> None:
    command = [*MODEL, "--n-masters", "2", "--n-processes", "2", "--team-backend", "gloo", "--trial-name", "t"]
    result = launch(4, [*command, "--epochs", "2", "--batch", "10"], mpi="mpich", cwd=prepared(tmp_path), timeout=120)
    assert result.code == 0, result
    assert "a head of 1 master and 1 worker of 2 ranks" in result.stderr + result.stdout
    history = json.loads((tmp_path / "mlp_t_history.json").read_text())
    assert set(history["epochs"][0]["ranks"]) == {"2"} and history["ranks"] == 4
    assert history["epochs"][-1]["samples"] == 120


def test_a_size_that_does_not_divide_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    result = launch(3, [*MODEL, "--n-processes", "3"], cwd=prepared(tmp_path), timeout=120)
    assert result.code == 2, result
    own = [line for line in result.stderr.splitlines() if line.startswith("TrainingDriver: ")]
    assert len(own) == 1 and "3 ranks do not divide" in own[0] and "start 4 or 7" in own[0]
