"""An experiment over real MPI, and the same one on the virtual clock."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnlo.drivers import ExperimentDriver
from tests.mpi.launch import available, launch

SMALL = """
experiment: {workers: 3, model: mlp, batch: 50, epochs: 2, seed: 4, data_split: label}
runs:
  - {name: graph, mode: dsgt, lr: [0.05, 0.1]}
  - {name: collective, mode: allreduce, lr: 0.01}
"""


def results(folder: Path) -> dict[str, list[dict[str, float]]]:
    """{run: its points without their seconds}."""
    (made,) = folder.iterdir()
    found = {}
    for path in sorted((made / "runs").glob("*.json")):
        points = json.loads(path.read_text())["points"]
        found[path.stem] = [{name: value for name, value in point.items() if name != "seconds"} for point in points]
    return found


@pytest.mark.parametrize("mpi", available())
def test_ranks_come_to_what_the_virtual_clock_says(mpi: str, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    line = ["ExperimentDriver", tmp_path / "small.yaml", "--folder"]
    real = launch(4, [*line, tmp_path / "real"], mpi=mpi, timeout=90)
    assert real.code == 0, real
    assert real.stdout.count("of training") == 3 and "summary.csv" in real.stdout
    with pytest.raises(SystemExit, match="0"):
        ExperimentDriver.main([str(word) for word in (*line[1:], tmp_path / "virtual", "--virtual")])
    assert results(tmp_path / "real") == results(tmp_path / "virtual")


def test_other_numbers_of_ranks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    wrong = launch(3, ["ExperimentDriver", tmp_path / "small.yaml"], mpi="mpich", timeout=60)
    assert wrong.code == 2 and "line 2: 3 workers take 4 ranks, not 3: mpirun -np 4" in wrong.stderr, wrong
