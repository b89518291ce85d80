"""Trainings that fail alone, over real MPI."""

from __future__ import annotations

from tests.mpi.bodies import bodies_test

test_contained = bodies_test("bodies_contained.py", ranks=(3,), seconds=60.0, others=())
