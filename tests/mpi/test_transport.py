"""The transport over real MPI: the bodies that the virtual clock runs too."""

from __future__ import annotations

from tests.mpi.bodies import HERE, bodies_test, body_names
from tests.transport_bodies import BODIES, WALL_TIME_BODIES

test_transport = bodies_test("bodies_transport.py", ranks=(2, 3, 5), others=(3,))


def test_no_body_is_left_out() -> None:
    wanted = {f"body_{body.__name__}" for body in [*BODIES, *WALL_TIME_BODIES]}
    assert wanted <= set(body_names(HERE / "bodies_transport.py"))
