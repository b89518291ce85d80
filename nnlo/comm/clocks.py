"""How far the clocks of ranks are apart, from meetings that all of them timed."""

from __future__ import annotations

from collections.abc import Sequence

from nnlo.comm.base import Transport

#: A rank's clock (seconds) before and after a meeting.
Meeting = tuple[float, float]

MEETINGS = 50


async def time_meetings(transport: Transport) -> list[Meeting]:
    """Meet everyone a few times in a row; every rank of the group calls it."""
    timed = []
    for _ in range(MEETINGS):
        before = transport.clock()
        await transport.allgather(b"")
        timed.append((before, transport.clock()))
    return timed


def offset(reference: Sequence[Meeting], other: Sequence[Meeting]) -> tuple[float, float]:
    """What to add to the other clock to get the reference's, and by how much that may be wrong, in seconds.

    Nobody leaves a meeting before everyone has come, so each meeting bounds the offset from both sides: the other rank
    left after the reference came, and came before the reference left. The tightest bounds count; drift does not.
    """
    pairs = list(zip(reference, other, strict=True))
    least = max(came - left for (came, _), (_, left) in pairs)
    most = min(left - came for (_, left), (came, _) in pairs)
    return (least + most) / 2, (most - least) / 2
