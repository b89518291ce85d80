from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.mpi.launch import IMPLEMENTATIONS, available


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
