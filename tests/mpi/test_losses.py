"""Ranks that are killed while they train: over Open MPI's ULFM the others go on, elsewhere the job ends."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.mpi.launch import Job, Result, available, launch

SCRIPT = Path(__file__).parent / "scripts" / "dying.py"
SURVIVES = ("--with-ft", "ulfm")
SAMPLES, EPOCHS = 384, 2
TRANSPORTS = ["shm", "mpi"]

pytestmark = pytest.mark.skipif("openmpi" not in available(), reason="Open MPI is not installed here")


def command(folder: Path, *kills: tuple[int, int, int], algo: Any = None, **manager: Any) -> list[str]:
    settings = {"kills": kills, "algo": algo or {}, "manager": manager}
    return [str(SCRIPT), str(folder), json.dumps(settings)]


def trained(np: int, folder: Path, *kills: tuple[int, int, int], **settings: Any) -> Result:
    return launch(np, command(folder, *kills, **settings), mpi="openmpi", flags=SURVIVES, timeout=60)


def found(folder: Path) -> tuple[list[float], dict[str, Any]]:
    """The weights and the history."""
    left = json.loads((folder / "found.json").read_text())
    return left["w"], left["history"]


@pytest.mark.parametrize(("step", "transport"), [(0, "mpi"), (5, "shm")])
def test_the_others_do_what_a_lost_worker_had_not_done(step: int, transport: str, tmp_path: Path) -> None:
    result = trained(4, tmp_path, (2, step, 2), transport=transport)
    assert result.code == 0, result
    w, history = found(tmp_path)
    assert w == [-EPOCHS] * SAMPLES, "each sample counts once an epoch"
    (lost,) = history["lost"]
    assert lost["rank"] == 2 and lost["host"] == history["hosts"][2] and 0 < lost["seconds"] < history["seconds"]
    assert lost["samples"] < EPOCHS * SAMPLES == history["epochs"][-1]["samples"]
    assert history["outcome"] == "done" and "Traceback" not in result.stderr
    assert result.stderr.count("rank 2 is lost") == 1 and "workers left: 2" in result.stderr


def test_a_lost_master_between_costs_the_workers_behind_it(tmp_path: Path) -> None:
    result = trained(7, tmp_path, (2, 3, 1), num_masters=3)
    assert result.code == 0, result
    _, history = found(tmp_path)
    assert history["epochs"][-1]["samples"] == EPOCHS * SAMPLES
    assert [lost["rank"] for lost in history["lost"]] == [2, 3]
    assert "rank 1 is lost" in result.stderr and "what trains behind it: 2, 3; workers left: 2" in result.stderr


def test_a_worker_lost_after_the_training_costs_nothing(tmp_path: Path) -> None:
    result = trained(4, tmp_path, (0, 0, 2), transport="mpi")
    assert result.code == 0, result
    w, history = found(tmp_path)
    assert w == [-EPOCHS] * SAMPLES and history["lost"] == []


def test_without_its_first_rank_the_job_ends(tmp_path: Path) -> None:
    result = trained(3, tmp_path, (1, 3, 0))
    assert result.code != 0 and result.seconds < 30
    assert "rank 0 is lost" in result.stderr and "Traceback" not in result.stderr, result


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_collective_goes_on_without_those_it_has_lost(transport: str, tmp_path: Path) -> None:
    """The first worker among them. Each round takes 1 off the weights together, and each sample has its part of it."""
    algo = {"optimizer": "sgd", "lr": 1.0, "mode": "allreduce"}
    result = trained(4, tmp_path, (1, 3, 1), (3, 9, 3), algo=algo, worker_accuracy=True, transport=transport)
    assert result.code == 0, result
    w, history = found(tmp_path)
    assert [lost["rank"] for lost in history["lost"]] == [1, 3] and history["outcome"] == "done"
    assert history["workers"].keys() == {"2"}
    assert [entry["samples"] for entry in history["epochs"]] == [SAMPLES, 2 * SAMPLES]
    assert sum(w) == pytest.approx(-sum(entry["updates"] for entry in history["epochs"]))
    assert max(w) < 0 and "Traceback" not in result.stderr


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nodes_of_a_graph_go_on_without_those_they_have_lost(transport: str, tmp_path: Path) -> None:
    """The samples of a lost node are its own, and go with it."""
    algo = {"optimizer": "sgd", "lr": 0.5, "mode": "dsgt", "graph": "cycle"}
    result = trained(5, tmp_path, (1, 3, 1), (3, 9, 3), algo=algo, transport=transport)
    assert result.code == 0, result
    w, history = found(tmp_path)
    assert [lost["rank"] for lost in history["lost"]] == [1, 3] and history["outcome"] == "done"
    assert len(history["epochs"][-1]["distances"]) == 2
    assert sum(one < 0 for one in w) >= SAMPLES / 2
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("mpi", available())
def test_no_rank_outlives_its_launcher(mpi: str, tmp_path: Path) -> None:
    endless = command(tmp_path, num_epochs=10**6)
    with Job(3, endless, mpi=mpi) as job:
        until = time.monotonic() + 60
        while not all((tmp_path / str(rank)).exists() for rank in range(3)):
            assert time.monotonic() < until, job.result()
            time.sleep(0.1)
        time.sleep(3)
        job.send_signal(signal.SIGKILL)
        job.finish(timeout=15)


@pytest.mark.parametrize("how", ["sleep", "held"])
def test_a_worker_that_hangs_ends_and_is_lost(how: str) -> None:
    """The launcher's exit code is that of a rank that left with one, as faulthandler has it do."""
    result = launch(4, [str(SCRIPT.with_name("stalling.py")), how], mpi="openmpi", flags=SURVIVES, timeout=60)
    assert result.code == (how == "held"), result
    assert result.stdout == "done [2] 512\n"
    assert "rank 2 is lost" in result.stderr and "stalling.py" in result.stderr, "where it hung"
    if how == "sleep":
        assert "hangs: it has read or computed one batch for 1 s (--stall-timeout)" in result.stderr
