"""Training over real MPI with one worker in this process, then 1, 2 and 4 workers."""

from __future__ import annotations

from tests.mpi.bodies import bodies_test

test_training = bodies_test("bodies_training.py", ranks=(1, 2, 3, 5), seconds=30.0, others=(3,))
