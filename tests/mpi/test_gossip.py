"""Modes on a graph over real MPI."""

from __future__ import annotations

from tests.mpi.bodies import bodies_test

test_gossip = bodies_test("bodies_gossip.py", ranks=(5,), seconds=60.0)
