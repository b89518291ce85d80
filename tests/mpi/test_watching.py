"""What a watched run leaves over real mpirun: one timeline, one log file, and a series for each rank."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from nnlo.data.prepare import prepare
from tests.mpi.launch import launch
from tests.unit.test_timeline import assert_nested, by_row, spans_in

LINE = re.compile(r" *\d+\.\d{3} s  (master 0|worker 1|worker 2)  \S")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where three ranks trained on the digits."""
    folder = tmp_path_factory.mktemp("run")
    prepare("digits", folder / "data")
    flags = ["--epochs", "3", "--timeline", "--monitor", "0.05", "--log-file", "log", "--trial-name", "t"]
    command = ["TrainingDriver", *flags, "--log-level", "debug"]
    result = launch(3, command, mpi="mpich", timeout=60, cwd=folder, env={"NNLO_DATA": str(folder / "data")})
    assert result.code == 0, result
    assert "  mnist_t_timeline.json\n" in result.stdout
    assert result.stderr.count("epoch 2/3  done") == 1 and "epoch 2/3 done" not in result.stderr
    return folder


@pytest.fixture(scope="module")
def history(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "mnist_t_history.json").read_text())
    return found


def test_the_timeline_holds_all_ranks(folder: Path, history: dict[str, Any]) -> None:
    spans = spans_in(folder / "mnist_t_timeline.json")
    for row in by_row(spans).values():
        assert_nested(row)
    assert {span["pid"] for span in spans} == {0, 1, 2}
    for rank in (1, 2):
        entries = [epoch["ranks"][str(rank)] for epoch in history["epochs"]]
        computed = [span for span in spans if span["pid"] == rank and span["name"] == "compute"]
        assert len(computed) == sum(entry["updates"] for entry in entries)
        busy = sum(entry["busy_seconds"] for entry in entries)  # measured within the spans, in whole microseconds
        assert busy - 1e-6 * len(computed) < sum(1e-6 * span["dur"] for span in computed) < history["seconds"]


def test_no_update_is_applied_before_it_was_sent(folder: Path) -> None:
    """By clocks as far as they are known: a step of n updates comes after the n-th exchange began."""
    spans = spans_in(folder / "mnist_t_timeline.json")
    document = json.loads((folder / "mnist_t_timeline.json").read_text())
    error = max(document["otherData"]["clock_error_us"].values())
    began = sorted(s["ts"] for s in spans if s["name"] == "exchange" and "args" in s and s["args"]["bytes"] > 64)
    steps = sorted(s["ts"] for s in spans if s["name"] == "step")
    assert len(steps) == len(began)
    assert all(step >= sent - error for sent, step in zip(began, steps, strict=True))


def test_every_rank_has_its_load(history: dict[str, Any]) -> None:
    assert history["monitor"].keys() == {"0", "1", "2"}
    for rank, series in history["monitor"].items():
        assert len(series["seconds"]) == len(series["cpu_percent"]) == len(series["memory_bytes"]) > 0
        assert all(1e7 < size < 1.1 * history["peak_memory_bytes"][rank] for size in series["memory_bytes"])
        assert all(share >= 0 for share in series["cpu_percent"])
    assert max(history["monitor"]["1"]["cpu_percent"]) > 0


def test_the_log_file_holds_whole_lines_of_all_ranks(folder: Path) -> None:
    lines = (folder / "log").read_text().splitlines()
    heads = [LINE.match(line) for line in lines]
    assert all(heads), lines
    assert {head[1] for head in heads if head} == {"master 0", "worker 1", "worker 2"}
    assert "TrainingDriver --epochs 3" in lines[0] and "torch" in lines[0]
    for text in ("a master and 2 workers", "ranks 0 to 2 on ", "epoch 3/3 done", "wrote mnist_t_timeline.json"):
        assert len([line for line in lines if text in line]) == 1, text


FAILING = """
from pathlib import Path
from mpi4py import MPI
from nnlo.comm.mpi import MpiWorld
from nnlo.logs import set_up

async def main(transport):
    await transport.allgather(b"")
    if transport.rank:
        raise KeyError("on purpose")
    await transport.allgather(b"")

set_up("error", Path("log"), MPI.COMM_WORLD.rank)
MpiWorld(MPI.COMM_WORLD).run(main)
"""


def test_the_traceback_of_a_rank_that_fails_is_in_the_log_file(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    result = launch(2, str(tmp_path / "failing.py"), mpi="mpich", timeout=60, cwd=tmp_path)
    assert result.code != 0
    assert result.stderr.count("KeyError: 'on purpose'") == 1
    text = (tmp_path / "log").read_text()
    assert re.match(r" *\d+\.\d{3} s  worker 1  error: nnlo: rank 1 on \S+ failed:\nTraceback", text)
    assert text.count("KeyError: 'on purpose'") == 1
