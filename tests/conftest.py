from __future__ import annotations

import pytest

from tests.mpi.launch import IMPLEMENTATIONS, available


@pytest.fixture(params=IMPLEMENTATIONS)
def mpi(request: pytest.FixtureRequest) -> str:
    """The name of an MPI: a test that takes it runs once for each, and skips where one is not installed."""
    if request.param not in available():
        pytest.skip(f"{request.param} is not installed in {IMPLEMENTATIONS[request.param].prefix}: `make test` does it")
    return str(request.param)
