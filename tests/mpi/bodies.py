"""Many test bodies in one MPI job, since it is starting that takes long; one pytest result for each.

A test module says

    test_channels = bodies_test("bodies_channels.py", ranks=(2, 3))

and gets `test_channels[mpich-2-body_ping]`, ...: one job for each MPI and number of ranks, which runs the bodies of all
test modules. `others` are the numbers of ranks for MPIs other than MPICH, where a module is about roles rather than
messages.
"""

from __future__ import annotations

import ast
import functools
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.mpi.launch import IMPLEMENTATIONS, JobFailure, Result, launch
from tests.mpi.run_bodies import merge

HERE = Path(__file__).parent
START = 20.0
"""Seconds that a job may take to start and to import, on a busy machine."""
LONGEST = 1500.0
"""Seconds for a job of many bodies, each of which has a limit of its own."""


def body_names(path: Path) -> list[str]:
    """The names of the bodies in a module, read without importing it: it may start MPI."""
    tree = ast.parse(path.read_text(), str(path))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("body_")]


@dataclass(frozen=True)
class Body:
    """A function of a module, and the seconds that it may take."""

    path: Path
    name: str
    seconds: float

    def __str__(self) -> str:
        """As the runner is told."""
        return f"{self.path}::{self.name}::{self.seconds:g}"


JOBS: dict[tuple[str, int], list[Body]] = {}
"""What is to run, over which MPI and on how many ranks: all of it, from all test modules there are, in one job.

Where pytest runs tests side by side, those of a job are for one of its processes: see `pytest_xdist_make_scheduler`.
"""


def bodies_test(
    module: str, ranks: Sequence[int] = (2,), seconds: float = 20.0, others: Sequence[int] | None = None
) -> Callable[..., None]:
    """A pytest function over every MPI, number of ranks and body of `module`, a file in this folder.

    `seconds` is what one body may take before it fails; the bodies after it still run, in a new job.
    """
    path = HERE / module
    bodies = {name: Body(path, name, seconds) for name in body_names(path)}
    jobs = [(mpi, np) for mpi in IMPLEMENTATIONS for np in (ranks if others is None or mpi == "mpich" else others)]
    for job in jobs:
        JOBS.setdefault(job, []).extend(bodies.values())

    @pytest.mark.timeout(LONGEST)
    @pytest.mark.parametrize("body", bodies)
    @pytest.mark.parametrize(("mpi", "np"), jobs, indirect=["mpi"])
    def test(mpi: str, np: int, body: str) -> None:
        report = run_job(mpi, np)[bodies[body]]
        if report["outcome"] == "skipped":
            pytest.skip(report["text"])
        assert report["outcome"] == "passed", report["text"]

    return test


@functools.cache
def run_job(mpi: str, np: int) -> dict[Body, dict[str, str]]:
    return run_bodies(JOBS[mpi, np], mpi, np)


def run_bodies(bodies: Sequence[Body], mpi: str, np: int) -> dict[Body, dict[str, str]]:
    """{body: {"outcome": "passed" | "failed" | "skipped", "text": tracebacks or reason}}.

    A body that hangs or ends its rank takes its job with it; those after it are run in another one.
    """
    report: dict[Body, dict[str, str]] = {}
    waiting = list(bodies)
    while waiting:
        found, said = _one_job(waiting, mpi, np)
        if not found:
            found = {waiting[0]: {"outcome": "failed", "text": f"the job ended in it: {said}"}}
        report |= found
        _explain_last(found, said)
        waiting = [body for body in waiting if body not in report]
    return report


def _one_job(bodies: list[Body], mpi: str, np: int) -> tuple[dict[Body, dict[str, str]], str]:
    by_text = {str(body): body for body in bodies}
    timeout = START + sum(body.seconds for body in bodies)
    with tempfile.TemporaryDirectory() as records:
        runner = [sys.executable, HERE / "run_bodies.py", *by_text, "--records", records]
        try:
            result: Result | JobFailure = launch(np, runner, mpi=mpi, timeout=timeout)
        except JobFailure as failure:
            result = failure
        found = merge(Path(records), list(by_text), np)
        return {by_text[text]: verdict for text, verdict in found.items()}, str(result)


def _explain_last(found: dict[Body, dict[str, str]], said: str) -> None:
    """Adds what the job said to the body that it ended in, whose own record may be short."""
    last = found[list(found)[-1]]
    if "did not come out of it" in last["text"]:
        last["text"] += f"\n{said}"
