"""One decision on all ranks: either all go on, or all raise the same error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from nnlo import errors
from nnlo.comm.base import Transport
from nnlo.errors import DataError, Finished, NnloError, OptionsError, Preempted, ProtocolError, TrainingError

T = TypeVar("T")

LONGEST_MESSAGE = 4000


async def share(transport: Transport, value: Any) -> list[Any]:
    """Every rank's `value` (plain JSON), in the order of the group."""
    told = await transport.allgather(json.dumps(value).encode())
    unlike = list(set(told))  # most say the same, and one call reads a thousand texts sooner than a thousand do
    known = dict(zip(unlike, json.loads(b"[" + b",".join(unlike) + b"]"), strict=True))
    return [known[data] for data in told]


async def agree(transport: Transport, error: Exception | None) -> None:
    """Return on every rank if no rank has an error, else raise on every rank what the ranks say.

    The kind of the first rank that complains counts, and each of its messages is said once. Before
    that go errors that are not of this library: the first rank that has one raises it, which ends the job.
    """
    told = await share(transport, None if error is None else [kind_of(error), str(error)])
    complaints = [complaint for complaint in told if complaint is not None]
    if not complaints:
        return
    if foreign := [rank for rank, complaint in enumerate(told) if complaint and complaint[0] is None]:
        if error is not None and transport.rank == foreign[0]:
            raise error
        await transport.allgather(b"")  # for good: that rank ends this one
    name, _ = complaints[0]
    messages = list(dict.fromkeys(message for other, message in complaints if other == name))
    agreed: NnloError = getattr(errors, name)("; ".join(messages)[:LONGEST_MESSAGE])
    agreed.agreed = True
    raise agreed from error


def kind_of(error: Exception) -> str | None:
    """The class in `nnlo.errors` that is raised everywhere for `error`; None for what is not of this library."""
    kinds = (OptionsError, DataError, ProtocolError, TrainingError, Preempted, Finished, NnloError)
    return next((kind.__name__ for kind in kinds if isinstance(error, kind)), None)


async def everywhere(transport: Transport, work: Callable[[], T]) -> T:
    """Do `work` on every rank, and give this rank's result; all raise when one of them does."""
    results, fault = attempt(work)
    await agree(transport, fault)
    return results[0]


def together(work: Callable[[], T], undo: Callable[[T], None]) -> T:
    """The same outside of a role, on all ranks that a launcher started: nobody leaves while others go on.

    `undo` is called with what `work` gave on this rank where it failed on another one.
    """
    results, fault = attempt(work)
    try:
        from nnlo.comm.mpi import MPI, MpiWorld
    except NnloError as error:
        raise fault or error from None
    try:
        MpiWorld(MPI.COMM_WORLD, transport="mpi").run(lambda transport: agree(transport, fault))
    except NnloError:
        for result in results:
            undo(result)
        raise
    return results[0]


def attempt(work: Callable[[], T]) -> tuple[list[T], Exception | None]:
    """What `work` returns, or nothing and what it raises."""
    try:
        return [work()], None
    except Exception as error:
        return [], error
