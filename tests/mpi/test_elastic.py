"""Elastic averaging and gradient energy matching over real MPI."""

from __future__ import annotations

from tests.mpi.bodies import bodies_test

test_elastic = bodies_test("bodies_elastic.py", ranks=(3,), seconds=30.0)
