from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.mpi.launch import IMPLEMENTATIONS, available

#: The job that a test of bodies belongs to, in its name: tests/mpi/test_votes.py::test_votes[mpich-3-body_...]
JOB = re.compile(r"\[(\w+-\d+)-body_")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Tests that launch ranks run side by side, but those whose bodies share a job one after another."""
    return Launching(config, log) if any("mpi" in Path(one).parts for one in config.args) else None


class Launching(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        job = JOB.search(nodeid)
        return job[1] if job else nodeid


@pytest.fixture(params=IMPLEMENTATIONS)
def mpi(request: pytest.FixtureRequest) -> str:
    """The name of an MPI: a test that takes it runs once for each, and skips where one is not installed."""
    if request.param not in available():
        pytest.skip(f"{request.param} is not installed in {IMPLEMENTATIONS[request.param].prefix}: `make test` does it")
    return str(request.param)


@pytest.fixture
def parts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The modules of benchmarks/ that a test module lists in NAMES; they import one another as scripts do."""
    names = request.module.NAMES
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)
