"""A timeline of all ranks in Chrome's trace event format, which ui.perfetto.dev and chrome://tracing show."""

from __future__ import annotations

import json
import socket
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnlo.comm.base import Transport
from nnlo.comm.clocks import offset, time_meetings
from nnlo.comm.trace import ASIDE_VALUES, VALUES, Recording, Span
from nnlo.training.atomic import replacing

Event = dict[str, Any]

OWN_ROW = "training"


@dataclass(frozen=True)
class RankSpans:
    """What one rank did, by the clock of rank 0, which may be wrong by `error` seconds; times in whole nanoseconds."""

    rank: int
    host: str
    spans: list[Span]
    dropped: int
    error: float


async def gather_spans(transport: Transport, trace: Recording) -> list[RankSpans]:
    """The spans of every rank on the first rank, nothing elsewhere; every rank calls it.

    The clocks are compared here, at the end: where spans were dropped, it is the newest that were kept.
    """
    meetings = await time_meetings(transport)
    spans, dropped = trace.taken()
    own = [transport.id, socket.gethostname(), dropped, meetings, spans]
    told = await transport.allgather(zlib.compress(json.dumps(own, separators=(",", ":")).encode(), 1))
    if transport.rank:
        return []
    return [aligned(meetings, *json.loads(zlib.decompress(data))) for data in told]


def aligned(reference: Any, rank: int, host: str, dropped: int, meetings: Any, spans: list[Any]) -> RankSpans:
    """A rank's spans by the reference's clock."""
    shift, error = offset(reference, meetings)
    moved = [(name, nanoseconds(a + shift), nanoseconds(b + shift), *values) for name, a, b, *values in spans]
    return RankSpans(rank, host, moved, dropped, error)


def nanoseconds(seconds: float) -> int:
    return round(1e9 * seconds)


def write_timeline(path: Path, ranks: Sequence[RankSpans]) -> Path:
    """One event a line, from time 0 on; returns the path. Raises DataError where the file cannot be written."""
    zero = min((began for one in ranks for _, began, *_ in one.spans), default=0)
    notes = {
        "dropped_spans": {str(one.rank): one.dropped for one in ranks},
        "clock_error_us": {str(one.rank): round(1e6 * one.error, 3) for one in ranks[1:]},
    }
    with replacing(path) as scratch, open(scratch, "w", encoding="utf-8") as file:
        file.write(f'{{"displayTimeUnit": "ms", "otherData": {json.dumps(notes)}, "traceEvents": [')
        between = "\n"
        for one in ranks:
            for event in events(one, min(0, zero)):
                file.write(between + json.dumps(event, separators=(",", ":")))
                between = ",\n"
        file.write("\n]}\n")
    return path


def events(one: RankSpans, zero: int) -> Iterator[Event]:
    """A rank is a process, and each of its threads a row; time 0 of the file is the nanosecond `zero`."""
    name = f"rank {one.rank} {'worker' if one.rank else 'master'} {one.host}"
    yield label("process_name", one.rank, 0, name=name)
    yield label("process_sort_index", one.rank, 0, sort_index=one.rank)
    rows = {OWN_ROW: 0}
    for span in one.spans:
        row = OWN_ROW if span[0] in VALUES else span[0]
        yield complete(span, one.rank, rows.setdefault(row, len(rows)), zero)
    for row, number in rows.items():
        yield label("thread_name", one.rank, number, name=row)


def label(what: str, rank: int, row: int, **values: Any) -> Event:
    return {"ph": "M", "name": what, "pid": rank, "tid": row, "ts": 0, "args": values}


def complete(span: Span, rank: int, row: int, zero: int) -> Event:
    """A span as a complete event, in microseconds."""
    name, began, ended, *values = span
    keys, told = (VALUES[name], values) if name in VALUES else (ASIDE_VALUES, [value for value in values if value])
    args = {"args": dict(zip(keys, told, strict=False))} if told else {}
    when = {"ts": (began - zero) / 1e3, "dur": (ended - began) / 1e3}
    return {"ph": "X", "name": name, "pid": rank, "tid": row, **when, **args}
