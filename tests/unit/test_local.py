"""The ranks of one process on wall time: the same transport with real clocks and threads."""

from __future__ import annotations

import threading
import time

import pytest

from nnlo.comm.base import Transport
from nnlo.comm.local import LocalWorld
from nnlo.errors import ProtocolError
from tests.transport_bodies import BODIES, WALL_TIME_BODIES, Body, meet, receive


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("body", [*BODIES, *WALL_TIME_BODIES], ids=lambda body: body.__name__)
def test_transport(body: Body, size: int) -> None:
    LocalWorld(size).run(body)


def test_the_clock_is_that_on_the_wall() -> None:
    async def main(transport: Transport) -> float:
        began = transport.clock()
        await transport.compute(lambda: time.sleep(0.05), 1)
        return transport.clock() - began

    found = LocalWorld(1).run(main)
    assert found is not None and 0.05 <= found < 5.0


def test_ranks_have_threads_of_their_own() -> None:
    """Two ranks' work of one name runs side by side: each waits for the other."""
    both = threading.Barrier(2, timeout=20.0)

    async def main(transport: Transport) -> None:
        task = transport.offload(both.wait, "reading")
        await transport.wait([task])
        assert task.result() in (0, 1)

    LocalWorld(2).run(main)


def test_an_exception_of_a_rank_ends_the_world_and_its_threads() -> None:
    ended = threading.Event()

    async def main(transport: Transport) -> None:
        if transport.id == 1:
            transport.offload(lambda: ended.wait(20.0), "slow")
            queued = transport.offload(lambda: 1, "slow")
            assert not queued.ready
            await meet(transport)
            raise ValueError("on purpose")
        await meet(transport)
        await receive(transport, transport.channel(1, 1, 64))

    before = threading.active_count()
    with pytest.raises(ValueError, match="on purpose"):
        LocalWorld(2).run(main)
    ended.set()
    deadline = time.monotonic() + 10.0
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_ranks_that_wait_for_ever_are_named() -> None:
    async def main(transport: Transport) -> None:
        if transport.id:
            await receive(transport, transport.channel(0, 1, 64))

    with pytest.raises(ProtocolError, match="ranks 1 wait for what never comes"):
        LocalWorld(2).run(main)


def test_a_rank_that_waits_for_a_thread_is_not_taken_for_stuck() -> None:
    async def main(transport: Transport) -> int:
        task = transport.offload(lambda: time.sleep(0.1) or 3, "slow")
        await transport.wait([task])
        return task.result()

    assert LocalWorld(1).run(main) == 3


def test_can_run_again() -> None:
    async def main(transport: Transport) -> int:
        task = transport.offload(lambda: 3, "one")
        await transport.wait([task])
        transport.channel(1 - transport.id, 1, 64)
        return task.result()

    world = LocalWorld(2)
    assert [world.run(main), world.run(main)] == [3, 3]
