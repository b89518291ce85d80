"""Teams of ranks and heads of masters over real MPI."""

from __future__ import annotations

from tests.mpi.bodies import bodies_test

test_topology = bodies_test("bodies_topology.py", ranks=(5, 7), seconds=60.0)
