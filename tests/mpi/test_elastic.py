"""Asynchronous elastic averaging and gradient energy matching over real MPI."""

from __future__ import annotations

from tests.mpi.bodies import bodies_test

test_elastic = bodies_test("bodies_elastic.py", ranks=(2, 3), seconds=30.0, others=(3,))
