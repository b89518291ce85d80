"""The record of a search: what is read is what was written, whatever happened to the last line or to the disk."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlo.errors import DataError, OptionsError
from nnlo.logs import LOG
from nnlo.optimize.record import Record, Recorded, line, read_record, trial_of
from nnlo.optimize.record import line_of as plain_of
from nnlo.optimize.trial import Status, Trial

SEARCH = {"space": [{"name": "lr", "low": 1e-5}], "seed": 7, "pruner": None, "block_size": 3}
PARAMETERS = {
    "int": 1,
    "float": 1.0,
    "true": True,
    "false": False,
    "none": None,
    "text": "1",
    "tiny": 1e-300,
    "big": 2**60,
}
TRIALS = [
    Trial(0, PARAMETERS, Status.DONE, 0, 2, 0.25, 0.5, (0.75, 0.25), (0.1, 0.4), 1.5, 3.25),
    Trial(1, {"lr": 0.1}, Status.FAILED, reason='Traceback:\n  "é" \u2028 \udc80'),
    Trial(2, {"lr": 0.2}, Status.RUNNING, after=1, began=4.0),
]


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.LogCaptureFixture]:
    """Warnings, whatever else has the logger."""
    monkeypatch.setattr(LOG, "handlers", [caplog.handler])
    monkeypatch.setattr(LOG, "propagate", False)
    with caplog.at_level(logging.WARNING, LOG.name):
        yield caplog


def written(folder: Path, *trials: Trial) -> Path:
    """A record that is complete."""
    record = Record.begin(folder, SEARCH)
    for trial in trials:
        record.add(trial)
    record.close()
    return record.path


def read(folder: Path) -> Recorded:
    found = read_record(folder)
    assert found is not None
    return found


def documents(path: Path) -> list[Any]:
    """The file's lines, each strict JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return [json.loads(text, parse_constant=refuse) for text in path.read_text(encoding="ascii").splitlines()]


def test_what_is_read_is_what_was_written_and_of_the_same_types(tmp_path: Path) -> None:
    written(tmp_path / "new", *TRIALS)
    found = read(tmp_path / "new")
    assert repr(found.search) == repr(SEARCH)
    assert repr(found.trials) == repr(list(found.lines)) == repr(TRIALS)


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
FIGURES = st.lists(st.floats(allow_infinity=False), max_size=4).map(tuple)


@given(
    parameters=st.dictionaries(st.text(min_size=1), VALUES),
    figure=st.none() | st.floats(allow_infinity=False),
    figures=FIGURES,
    status=st.sampled_from(Status),
    reason=st.none() | st.text(st.characters(codec=None, categories=None)),
)
def test_any_trial_survives_its_line(
    parameters: Any, figure: float | None, figures: Any, status: Status, reason: str | None
) -> None:
    trial = Trial(3, parameters, status, figure=figure, figures=figures, reason=reason)
    text = line(plain_of(trial))
    assert text.count(b"\n") == 1 and text.endswith(b"\n")
    assert repr(trial_of(Path(), 2, text)) == repr(trial)


def test_the_file_is_plain_json_and_null_is_what_is_not_finite(tmp_path: Path) -> None:
    odd = Trial(0, {}, Status.DONE, figure=math.nan, spread=math.inf, figures=(1.0, math.nan, -math.inf))
    header, one, two = documents(written(tmp_path, odd, TRIALS[1]))
    assert header == {"search": SEARCH}
    assert (one["figure"], one["spread"], one["figures"]) == (None, None, [1.0, None, None])
    assert "figure" not in two and two["status"] == "failed"
    back, failed = read(tmp_path).trials
    assert math.isnan(back.figure or 0.0) and math.isnan(back.spread or 0.0)
    assert back.figures[0] == 1.0 and [math.isnan(value) for value in back.figures] == [False, True, True]
    assert failed.figure is None and failed.spread is None


@pytest.mark.parametrize(("value", "error"), [(math.nan, ValueError), (math.inf, ValueError), (Path("x"), TypeError)])
def test_a_parameter_never_becomes_another_one_in_silence(tmp_path: Path, value: Any, error: type[Exception]) -> None:
    record = Record.begin(tmp_path, SEARCH)
    with pytest.raises(error):
        record.add(Trial(0, {"x": value}, Status.DONE))
    record.close()
    assert read(tmp_path).trials == []


def test_the_last_line_of_a_trial_counts_and_gives_its_place(tmp_path: Path) -> None:
    rested, other = Trial(0, {"x": 1}, Status.RESTING, figures=(0.5,)), Trial(1, {"x": 2}, Status.DONE)
    whole = replace(rested, status=Status.DONE, figures=(0.5, 0.25))
    written(tmp_path, rested, other, whole)
    found = read(tmp_path)
    assert found.trials == [other, whole] and found.lines == (rested, other, whole)


def test_a_search_goes_on_where_its_record_ended(tmp_path: Path) -> None:
    written(tmp_path, *TRIALS[:2])
    record = Record.go_on(read(tmp_path))
    record.add(TRIALS[2])
    assert repr(read(tmp_path).trials) == repr(TRIALS)  # a line is there as soon as it was added
    record.close()


def test_beginning_anew_leaves_nothing_of_another_record(tmp_path: Path) -> None:
    written(tmp_path, *TRIALS)
    path = written(tmp_path)
    assert documents(path) == [{"search": SEARCH}] and read(tmp_path).trials == []


# A line that is torn, or broken.


def test_wherever_a_kill_tears_the_last_line_nothing_else_is_lost(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    content = written(tmp_path, *TRIALS).read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for size in sorted({*range(ends[0], len(content) + 1, 11), *ends, *(end - 1 for end in ends[1:])}):
        (tmp_path / "trials.jsonl").write_bytes(content[:size])
        whole = [end for end in ends if end <= size]
        told.clear()
        found = read(tmp_path)
        assert repr(found.trials) == repr(TRIALS[: len(whole) - 1])
        assert [str(tmp_path) in message and "torn" in message for message in told.messages] == [True] * (
            size > whole[-1]
        )
        record = Record.go_on(found)
        record.add(TRIALS[0])
        record.close()
        assert (tmp_path / "trials.jsonl").read_bytes() == content[: whole[-1]] + content[ends[0] : ends[1]]


def test_a_hole_in_the_last_line_is_a_tear(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    """As a host leaves it that lost its power: the end of the line is on the disk, what is before it is not."""
    path = written(tmp_path, *TRIALS[:2])
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(200) + b'"lr": 0.1}}\n')
    found = read(tmp_path)
    assert repr(found.trials) == repr(TRIALS[:2]) and found.size == size and len(told.messages) == 1


@pytest.mark.parametrize(
    "broken",
    [
        b"{",
        b"",
        b"[]",
        b"null",
        b"\xff",
        b'{"number": 1}',
        b'{"number": null, "parameters": {}, "status": "done"}',
        b'{"number": 1.0, "parameters": {}, "status": "done"}',
        b'{"number": true, "parameters": {}, "status": "done"}',
        b'{"number": 1, "parameters": [], "status": "done"}',
        b'{"number": 1, "parameters": null, "status": "done"}',
        b'{"number": 1, "parameters": {}, "status": "gone"}',
        b'{"number": 1, "parameters": {}, "status": null}',
        b'{"number": 1, "parameters": {}, "status": "done", "figure": "0.5"}',
        b'{"number": 1, "parameters": {}, "status": "done", "figures": null}',
        b'{"number": 1, "parameters": {}, "status": "done", "figures": ["a"]}',
        b'{"number": 1, "parameters": {}, "status": "done", "other": 1}',
    ],
)
def test_a_broken_line_elsewhere_is_named(tmp_path: Path, broken: bytes) -> None:
    path = written(tmp_path, *TRIALS)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = broken + b"\n"
    path.write_bytes(b"".join(lines))
    with pytest.raises(DataError) as refused:
        read_record(tmp_path)
    assert str(refused.value).startswith(f"{path}, line 3: not a trial") and "\n" not in str(refused.value)
    assert path.read_bytes() == b"".join(lines)


def test_where_no_record_was_begun_there_is_none(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    assert read_record(tmp_path) is None and read_record(tmp_path / "gone") is None
    header = line({"search": SEARCH})
    for size in range(len(header)):
        (tmp_path / "trials.jsonl").write_bytes(header[:size])
        assert read_record(tmp_path) is None
    assert told.messages == []


@pytest.mark.parametrize("content", [b"hello", b"hello\n", b"{}\n", b'{"search": 1}\n', b'{"search": {}, "more": 1}\n'])
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "trials.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=r"trials\.jsonl: not the record of a search: name another --output"):
        read_record(tmp_path)


def test_a_record_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "trials.jsonl").mkdir()
    with pytest.raises(DataError, match=r"trials\.jsonl: cannot read \(Is a directory\)"):
        read_record(tmp_path)


# The disk, and other writers.


def test_a_line_is_on_the_disk_before_anything_else_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, calls = Record.begin(tmp_path, SEARCH), []
    write, fsync = os.write, os.fsync
    monkeypatch.setattr(os, "write", lambda file, data: calls.append("write") or write(file, data))
    monkeypatch.setattr(os, "fsync", lambda file: calls.append("fsync") or fsync(file))
    record.add(TRIALS[0])
    assert calls[-1] == "fsync" and calls.count("fsync") == 1 and "write" in calls
    record.close()


class FullDisk:
    """os.write, until so many bytes are taken."""

    def __init__(self, room: int) -> None:
        self.room, self.write = room, os.write

    def __call__(self, file: int, data: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self.write(file, bytes(data)[: self.room])
        self.room -= taken
        return taken


def test_a_full_disk_is_told_and_the_search_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: pytest.LogCaptureFixture
) -> None:
    content = written(tmp_path / "whole", *TRIALS).read_bytes()
    sizes = [len(text) for text in content.splitlines(keepends=True)]
    for room in range(0, sizes[1] + sizes[2], 7):
        told.clear()
        record = Record.begin(tmp_path, SEARCH)
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", FullDisk(room))
            record.add(TRIALS[0])
            record.add(TRIALS[1])
        missing = 2 if room < sizes[1] else 1
        assert told.messages[-1].startswith(f"{record.path}: cannot write (No space left on device): {missing} line")
        assert len(told.messages) == missing
        complete = 1 if room >= sizes[1] else 0
        assert repr(read(tmp_path).trials[:complete]) == repr(TRIALS[:complete])  # what a kill leaves now is readable
        record.add(TRIALS[2])
        record.close()
        assert record.path.read_bytes() == content


def test_what_waits_is_tried_once_more_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = Record.begin(tmp_path, SEARCH)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", FullDisk(5))
        record.add(TRIALS[0])
    assert read(tmp_path).trials == []
    record.close()
    assert repr(read(tmp_path).trials) == repr(TRIALS[:1])


def test_a_search_does_not_begin_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", FullDisk(3))
    with pytest.raises(DataError, match=r"trials\.jsonl: cannot write \(No space left on device\): make room"):
        Record.begin(tmp_path, SEARCH)


def test_a_record_has_one_writer(tmp_path: Path) -> None:
    record = Record.begin(tmp_path, SEARCH)
    record.add(TRIALS[0])
    for another in (lambda: Record.begin(tmp_path, {}), lambda: Record.go_on(read(tmp_path))):
        with pytest.raises(OptionsError, match=r"trials\.jsonl: another search is writing it: name another --output"):
            another()
    record.add(TRIALS[1])
    assert repr(read(tmp_path).trials) == repr(TRIALS[:2])
    record.close()
    Record.go_on(read(tmp_path)).close()


def test_open_files_are_closed(tmp_path: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = count()
    record = Record.begin(tmp_path, SEARCH)
    with pytest.raises(OptionsError):
        Record.begin(tmp_path, SEARCH)
    record.close()
    assert count() == before
