"""The timeline: a valid trace of what each rank did, the same every time on the virtual clock."""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from nnlo import Algo, MPIManager
from nnlo.comm import trace
from nnlo.comm.base import Transport
from nnlo.comm.clocks import offset
from nnlo.comm.costs import Costs, Fault, FaultKind
from nnlo.comm.trace import VALUES, Recording, Trace, spans_of_each
from nnlo.comm.virtual import VirtualWorld
from nnlo.comm.virtual_transport import VirtualTransport
from nnlo.errors import OptionsError, TrainingError
from nnlo.logs import LOG
from nnlo.training import files
from nnlo.training.observe import Observation, ObserveArguments
from tests.jobs import Built, Rows, labelled

X, Y = labelled(320)
COSTS = Costs(compute=lambda peer, samples: samples * 1e-4 * peer, jitter=0.3, offload=1e-5, notice=0.02)
Event = dict[str, Any]


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take longer than the training."""
    monkeypatch.setattr(files, "draw", lambda history, path: False)


def manager(comm: Any, folder: Path, **options: Any) -> MPIManager:
    algo = Algo(
        "sgd", lr=0.05, **{name: options.pop(name) for name in ("synchronous", "sync_every") if name in options}
    )
    settings: dict[str, Any] = {"timeline": True, "output": folder, "trial_name": "t"} | options
    return MPIManager(comm, Rows(X, Y, 8), algo, Built(lambda: nn.Linear(8, 4)), 2, ["all"], ["all"], **settings)


def world(*faults: Fault) -> VirtualWorld:
    return VirtualWorld(4, costs=COSTS, faults=faults, seed=3)


def traced(comm: Any, folder: Path, **options: Any) -> tuple[dict[str, Any], list[Event]]:
    """The history of a run, and the spans of its timeline."""
    made = manager(comm, folder, **options)
    history = made.train()
    assert history is not None and made.files is not None
    return history, spans_in(made.files.timeline)


def spans_in(path: Path) -> list[Event]:
    document = json.loads(path.read_text())
    for event in document["traceEvents"]:
        assert event["ph"] in "XM" and isinstance(event["name"], str)
        assert all(isinstance(event[key], int) for key in ("pid", "tid"))
        assert event["ts"] >= 0 and event.get("dur", 0) >= 0
    return [event for event in document["traceEvents"] if event["ph"] == "X"]


def by_row(spans: list[Event]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Beginnings and ends, in nanoseconds, of the spans of each thread."""
    rows: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for span in spans:
        began = round(1e3 * span["ts"])
        rows[span["pid"], span["tid"]].append((began, began + round(1e3 * span["dur"])))
    return rows


def assert_nested(spans: list[tuple[int, int]]) -> None:
    around: list[int] = []
    for began, ended in sorted(spans, key=lambda span: (span[0], -span[1])):
        while around and around[-1] <= began:
            around.pop()
        assert not around or ended <= around[-1]
        around.append(ended)


@pytest.mark.parametrize("options", [{}, {"synchronous": True}, {"sync_every": 3}])
def test_every_rank_is_in_it_and_computes_as_long_as_the_history_says(tmp_path: Path, options: dict[str, Any]) -> None:
    history, spans = traced(world(), tmp_path, **options)
    for row in by_row(spans).values():
        assert_nested(row)
    assert {span["pid"] for span in spans} == {0, 1, 2, 3}
    for rank in (1, 2, 3):
        entries = [epoch["ranks"][str(rank)] for epoch in history["epochs"]]
        computed = [span for span in spans if span["pid"] == rank and span["name"] == "compute"]
        rounding = sum(entry["updates"] for entry in entries)  # each update tells its whole microseconds
        assert sum(span["dur"] for span in computed) == pytest.approx(
            1e6 * sum(entry["busy_seconds"] for entry in entries), abs=0.5 * rounding + 1
        )
        assert sum(span["args"]["samples"] for span in computed) == sum(entry["samples"] for entry in entries)


def test_the_master_steps_waits_and_validates(tmp_path: Path) -> None:
    history, spans = traced(world(), tmp_path)
    own = [span for span in spans if span["pid"] == 0]
    steps = [span["args"] for span in own if span["name"] == "step"]
    assert [step["version"] for step in steps] == list(range(1, len(steps) + 1))
    assert len(steps) == sum(epoch["updates"] for epoch in history["epochs"])
    assert max(step["staleness"] for step in steps) == max(e["staleness"]["max"] for e in history["epochs"]) > 0
    validations = [span for span in own if span["name"] == "validation"]
    assert [span["dur"] for span in validations] == pytest.approx([1e6 * 1e-5 * 320] * 2)
    assert [span["args"] for span in validations] == [{"samples": 320}] * 2
    assert {"setup", "idle", "validation wait"} <= {span["name"] for span in own}
    assert not [span for span in spans if span["name"] == "reading" and "args" in span]  # how many is not known
    assert len({span["tid"] for span in validations}) == 1 and validations[0]["tid"] != 0


def test_reading_that_takes_time_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offload = VirtualTransport.offload
    monkeypatch.setattr(VirtualTransport, "offload", lambda self, work, name, _=0: offload(self, work, name, 500))
    _, spans = traced(world(), tmp_path)
    for row in by_row(spans).values():
        assert_nested(row)
    waits = [span for span in spans if span["name"] == "batch wait"]
    assert {span["pid"] for span in waits} == {1, 2, 3} and all(span["dur"] > 0 for span in waits)
    reading = [span["dur"] for span in spans if span["name"] == "reading"]
    assert min(reading) == pytest.approx(1e6 * 1e-5 * 500)


def test_rows_are_named(tmp_path: Path) -> None:
    made = manager(world(), tmp_path)
    made.train()
    labels = {
        (event["pid"], event["tid"], event["name"]): event["args"].get("name", "")
        for event in json.loads((tmp_path / "Built_t_timeline.json").read_text())["traceEvents"]
        if event["ph"] == "M"
    }
    assert labels[0, 0, "process_name"].startswith("rank 0 master ")
    assert labels[2, 0, "process_name"].startswith("rank 2 worker ")
    assert labels[2, 0, "thread_name"] == "training" and labels[2, 1, "thread_name"] == "reading"
    assert labels[0, 1, "thread_name"] == "validation"


def test_exchanges_say_what_they_brought(tmp_path: Path) -> None:
    _, spans = traced(world(), tmp_path)
    exchanged = [span["args"] for span in spans if span["pid"] == 1 and span["name"] == "exchange"]
    read = [args["version"] for args in exchanged[1:]]
    assert read == [args["new_version"] for args in exchanged[:-1]]
    assert all(args["bytes"] > 64 for args in exchanged[1:])


def test_the_same_seed_gives_the_same_file_and_watching_changes_nothing(tmp_path: Path) -> None:
    for name, options in (("a", {}), ("b", {"monitor": 0.05}), ("off", {"timeline": False})):
        manager(world(), tmp_path / name, **options).train()
    first, second = ((tmp_path / name / "Built_t_timeline.json").read_bytes() for name in "ab")
    assert first == second
    assert not (tmp_path / "off" / "Built_t_timeline.json").exists()
    with_it, without = (json.loads((tmp_path / name / "Built_t_history.json").read_text()) for name in ("a", "off"))
    assert with_it["epochs"] == without["epochs"] and with_it["seconds"] == without["seconds"]


def test_nothing_is_kept_when_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Recording, "add", lambda *_: pytest.fail("a span was kept"))
    assert manager(world(), tmp_path, timeline=False, output=None).train() is not None
    work = lambda: 3  # noqa: E731
    assert Trace().timed(work, "reading", 0) is work


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What is logged."""
    kept: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: kept.append(record.getMessage())  # type: ignore[method-assign]
    level = LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG)
    yield kept
    LOG.removeHandler(handler)
    LOG.setLevel(level)


def test_the_newest_spans_are_kept_and_the_lack_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    _, everything = traced(world(), tmp_path / "all")
    assert not [line for line in lines if "dropped" in line]
    monkeypatch.setattr(trace, "MOST_SPANS", 20)
    _, kept = traced(world(), tmp_path / "few")
    document = json.loads((tmp_path / "few" / "Built_t_timeline.json").read_text())
    for rank in range(4):
        of_rank = [span for span in everything if span["pid"] == rank]
        assert [span for span in kept if span["pid"] == rank] == of_rank[-20:]
        assert document["otherData"]["dropped_spans"][str(rank)] == len(of_rank) - 20 > 0
    assert len([line for line in lines if "older ones were dropped" in line]) == 1


def test_many_ranks_share_what_a_file_may_hold() -> None:
    assert spans_of_each(3) == trace.MOST_SPANS
    assert spans_of_each(1000) * 1000 == trace.MOST_SPANS_IN_ALL


def test_spans_of_other_threads_have_their_time() -> None:
    now = [1.0]
    recording = Recording(lambda: now[0])

    def work() -> str:
        now[0] += 2.0
        raise KeyError

    with pytest.raises(KeyError):
        recording.timed(work, "reading", 7)()
    assert recording.taken() == ([("reading", 1.0, 3.0, 7)], 0)


def test_one_process_on_wall_time(tmp_path: Path) -> None:
    history, spans = traced(None, tmp_path)
    for row in by_row(spans).values():
        assert_nested(row)
    assert {span["name"] for span in spans if span["name"] not in VALUES} == {"reading", "validation"}
    computed = sum(span["dur"] for span in spans if span["name"] == "compute")
    assert 0 < computed <= 1e6 * history["seconds"]


def test_a_lost_worker_is_left_out_and_a_failed_run_has_its_timeline(tmp_path: Path) -> None:
    _, spans = traced(world(Fault(2, 5, FaultKind.DIE)), tmp_path / "one")
    assert {span["pid"] for span in spans} == {0, 1, 3}
    with pytest.raises(TrainingError):
        manager(world(*(Fault(peer, 2, FaultKind.DIE) for peer in (1, 2, 3))), tmp_path / "all").train()
    assert {span["pid"] for span in spans_in(tmp_path / "all" / "Built_t_timeline.json")} == {0}


def test_a_timeline_needs_a_folder_and_a_free_name(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"--timeline .*--output"):
        manager(None, tmp_path, output=None)
    (tmp_path / "Built_t_timeline.json").touch()
    with pytest.raises(OptionsError, match=r"Built_t_timeline.json already there"):
        manager(None, tmp_path).train()
    assert manager(None, tmp_path, timeline=False).train() is not None


def test_a_timeline_that_some_ranks_alone_want_is_given_up(lines: list[str]) -> None:
    """Nobody waits for the others' spans."""
    wanted = [ObserveArguments(timeline=rank != 1) for rank in range(3)]
    found = []

    async def main(transport: Transport) -> None:
        observation = Observation(wanted[transport.rank], one_process=True)
        observation.begin(transport)
        found.append(await observation.end(transport))

    VirtualWorld(3).run(main)
    assert [spans for _, spans in found] == [[], [], []]
    assert len([line for line in lines if "on some ranks alone" in line]) == 2


# Clocks.


def test_clocks_are_compared_within_the_error_that_is_told() -> None:
    """The other clock is 5 s behind; meetings end for each rank at another time, and the tightest count."""
    came = [(0.0, 0.5), (2.0, 1.9), (4.0, 4.25)]
    left = [(0.75, 1.0), (2.25, 2.5), (4.5, 4.375)]
    reference = [(a, b) for (a, _), (b, _) in zip(came, left, strict=True)]
    other = [(a - 5.0, b - 5.0) for (_, a), (_, b) in zip(came, left, strict=True)]
    shift, error = offset(reference, other)
    assert abs(shift - 5.0) <= error == pytest.approx(0.3125)


def test_clocks_that_agree_are_left_alone() -> None:
    meetings = [(0.1, 0.3), (0.4, 0.7)]
    assert offset(meetings, meetings)[0] == 0.0
