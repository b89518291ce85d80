"""Watching a run: the timeline of its ranks and the load of its processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nnlo.comm.agree import share
from nnlo.comm.base import Transport
from nnlo.comm.trace import Recording, spans_of_each
from nnlo.logs import LOG
from nnlo.options import Options, option
from nnlo.training.history import peak_memory
from nnlo.training.monitor import Monitor
from nnlo.training.timeline import RankSpans, gather_spans


@dataclass(frozen=True, kw_only=True)
class ObserveArguments(Options):
    """Watching"""

    timeline: bool = option(
        False, help="write what every rank did when to a file that ui.perfetto.dev and chrome://tracing show"
    )
    monitor: float | None = option(
        None,
        help="sample CPU, memory and GPUs of each process every so many seconds, into the history",
        metavar="SECONDS",
        at_least=0.01,
    )


class Observation:
    """What `wanted` asks for, while entered; `one_process`: all ranks live in this process, so rank 0 has its load."""

    def __init__(self, wanted: ObserveArguments, one_process: bool) -> None:
        self._wanted, self._one_process = wanted, one_process
        self._monitor: Monitor | None = None

    def __enter__(self) -> Observation:
        if self._wanted.monitor is not None:
            self._monitor = Monitor(self._wanted.monitor)
            self._monitor.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._monitor is not None:
            self._monitor.stop()

    def begin(self, transport: Transport) -> None:
        """Trace this rank from now on, if a timeline is wanted."""
        if self._wanted.timeline:
            transport.trace = Recording(transport.clock, spans_of_each(transport.size))

    async def end(self, transport: Transport) -> tuple[dict[str, Any], list[RankSpans]]:
        """What goes into the history, and on rank 0 the spans of all ranks; every rank calls it."""
        trace = transport.trace
        told = await share(transport, [str(transport.id), peak_memory(), self._series(transport), trace.on])
        figures: dict[str, Any] = {"peak_memory_bytes": {rank: peak for rank, peak, _, _ in told}}
        if monitored := {rank: series for rank, _, series, _ in told if series}:
            figures["monitor"] = monitored
        if isinstance(trace, Recording) and all(traced for *_, traced in told):
            return figures, tell_dropped(await gather_spans(transport, trace))
        if trace.on:
            LOG.warning("no timeline: it was asked for on some ranks alone: --timeline goes to all of them")
        return figures, []

    def _series(self, transport: Transport) -> dict[str, list[float]] | None:
        if self._monitor is None or (self._one_process and transport.rank):
            return None
        return self._monitor.series()


def tell_dropped(ranks: list[RankSpans]) -> list[RankSpans]:
    """The same, with a log line where spans are missing."""
    dropped = sum(one.dropped for one in ranks)
    if dropped:
        kept = max(len(one.spans) for one in ranks)
        LOG.info("the timeline holds the newest %s spans of each rank: %s older ones were dropped", kept, dropped)
    return ranks
