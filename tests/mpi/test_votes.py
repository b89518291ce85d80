"""Votes over real MPI: whoever counts them."""

from __future__ import annotations

from tests.mpi.bodies import bodies_test

test_votes = bodies_test("bodies_votes.py", ranks=(3, 5), seconds=60.0, others=(3,))
