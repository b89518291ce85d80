from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.mpi.launch import IMPLEMENTATIONS, available

LAUNCHING = Path(__file__).parent / "mpi"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Where tests run side by side, those that launch ranks run one after another."""
    for item in items:
        if LAUNCHING in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("mpi"))


@pytest.fixture(params=IMPLEMENTATIONS)
def mpi(request: pytest.FixtureRequest) -> str:
    """The name of an MPI: a test that takes it runs once for each, and skips where one is not installed."""
    if request.param not in available():
        pytest.skip(f"{request.param} is not installed in {IMPLEMENTATIONS[request.param].prefix}: `make test` does it")
    return str(request.param)
