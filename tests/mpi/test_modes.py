"""Every row of the table of modes over real MPI; the synchronous ones as on the virtual clock, bit for bit."""

from __future__ import annotations

from tests.mpi.bodies import bodies_test

test_modes = bodies_test("bodies_modes.py", ranks=(3,), seconds=240.0, others=())
