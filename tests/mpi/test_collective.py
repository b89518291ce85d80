"""Collectives over real MPI, whose parts start while a backward pass runs."""

from __future__ import annotations

from tests.mpi.bodies import bodies_test

test_collective = bodies_test("bodies_collective.py", ranks=(5,), seconds=60.0)
