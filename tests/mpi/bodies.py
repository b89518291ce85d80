"""Many test bodies in one MPI job, and one pytest result for each.

A test module says

    test_channels = bodies_test("bodies_channels.py", ranks=(2, 3))

and gets `test_channels[mpich-2-body_ping]`, ...: one job for each MPI and number of ranks. `others` are the numbers of
ranks for MPIs other than MPICH, where the module is about roles rather than messages.
"""

from __future__ import annotations

import ast
import functools
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.mpi.launch import IMPLEMENTATIONS, JobFailure, Result, launch
from tests.mpi.run_bodies import merge

HERE = Path(__file__).parent
START = 20.0
"""Seconds that a job may take to start and to import, on a busy machine."""


def body_names(path: Path) -> list[str]:
    """The names of the bodies in a module, read without importing it: it may start MPI."""
    tree = ast.parse(path.read_text(), str(path))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("body_")]


def bodies_test(
    module: str, ranks: Sequence[int] = (2,), seconds: float = 20.0, others: Sequence[int] | None = None
) -> Callable[..., None]:
    """A pytest function over every MPI, number of ranks and body of `module`, a file in this folder.

    `seconds` is what one body may take before it fails; the bodies after it still run, in a new job.
    """
    path = HERE / module
    names = body_names(path)
    jobs = [(mpi, np) for mpi in IMPLEMENTATIONS for np in (ranks if others is None or mpi == "mpich" else others)]

    @pytest.mark.timeout(2 * (START + seconds) * max(1, len(names)))
    @pytest.mark.parametrize("body", names)
    @pytest.mark.parametrize(("mpi", "np"), jobs, indirect=["mpi"])
    def test(mpi: str, np: int, body: str) -> None:
        report = run_bodies(path, mpi, np, seconds)[body]
        if report["outcome"] == "skipped":
            pytest.skip(report["text"])
        assert report["outcome"] == "passed", report["text"]

    return test


@functools.cache
def run_bodies(path: Path, mpi: str, np: int, seconds: float = 20.0) -> dict[str, dict[str, str]]:
    """{body: {"outcome": "passed" | "failed" | "skipped", "text": tracebacks or reason}} for all bodies of a module.

    A body that hangs or ends its rank takes its job with it; those after it are run in another one.
    """
    report: dict[str, dict[str, str]] = {}
    waiting = body_names(path)
    while waiting:
        found, said = _one_job(path, waiting, mpi, np, seconds)
        if not found:
            found = {waiting[0]: {"outcome": "failed", "text": f"the job ended in it: {said}"}}
        report |= found
        _explain_last(found, said)
        waiting = [name for name in waiting if name not in report]
    return report


def _one_job(path: Path, names: list[str], mpi: str, np: int, seconds: float) -> tuple[dict[str, dict[str, str]], str]:
    with tempfile.TemporaryDirectory() as records:
        runner = [sys.executable, HERE / "run_bodies.py", path, *names, "--seconds", str(seconds), "--records", records]
        try:
            result: Result | JobFailure = launch(np, runner, mpi=mpi, timeout=START + len(names) * seconds)
        except JobFailure as failure:
            result = failure
        return merge(Path(records), names, np), str(result)


def _explain_last(found: dict[str, dict[str, str]], said: str) -> None:
    """Adds what the job said to the body that it ended in, whose own record may be short."""
    last = found[list(found)[-1]]
    if "did not come out of it" in last["text"]:
        last["text"] += f"\n{said}"
