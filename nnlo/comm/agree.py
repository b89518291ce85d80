"""One decision on all ranks: either all go on, or all raise the same error."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from nnlo import errors
from nnlo.comm.base import Transport
from nnlo.errors import NnloError

T = TypeVar("T")

LONGEST_MESSAGE = 4000


async def share(transport: Transport, value: Any) -> list[Any]:
    """Every rank's `value` (plain JSON), in the order of the group."""
    return [json.loads(data) for data in await transport.allgather(json.dumps(value).encode())]


async def agree(transport: Transport, error: NnloError | None) -> None:
    """Return on every rank if no rank has an error, else raise on every rank what the ranks say.

    The kind of the first rank that complains counts, and each of its messages is said once.
    """
    told = await share(transport, None if error is None else [type(error).__name__, str(error)])
    complaints = [complaint for complaint in told if complaint is not None]
    if not complaints:
        return
    kind, _ = complaints[0]
    messages = list(dict.fromkeys(message for name, message in complaints if name == kind))
    agreed: NnloError = getattr(errors, kind, NnloError)("; ".join(messages)[:LONGEST_MESSAGE])
    agreed.agreed = True
    raise agreed from error


async def everywhere(transport: Transport, work: Callable[[], T]) -> T:
    """Do `work` on every rank, and give this rank's result; all raise when one of them does."""
    results: list[T] = []
    fault = None
    try:
        results.append(work())
    except NnloError as error:
        fault = error
    await agree(transport, fault)
    return results[0]
