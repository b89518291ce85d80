"""The record of a search: a line of JSON for its settings, and one for each trial whenever its status is another one.

    {"search": {"space": [...], "seed": 0, ...}}
    {"number": 0, "status": "done", "figure": 0.25, "figures": [0.5, 0.25], ..., "parameters": {"lr": 0.01}}

What is None is not there. Numbers that are not finite are null, as in histories, and are read as NaN: to a search they
are all the same. Of the lines of a trial, the last one counts.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from nnlo.errors import DataError, OptionsError
from nnlo.logs import LOG
from nnlo.optimize.trial import Status, Trial
from nnlo.training.atomic import flush, writing
from nnlo.training.checkpoint.store import write_all
from nnlo.training.report.text import plural
from nnlo.training.saved import NUMBER, fits
from nnlo.training.strict_json import strict

NAME = "trials.jsonl"
HEADER = "search"
NUMBERS = [NUMBER]
#: What a line of a trial may have, and of which kind it is.
SHAPE: dict[str, Any] = {
    **dict.fromkeys(("number", "after", "block"), int),
    **dict.fromkeys(("status", "reason"), str),
    **dict.fromkeys(("figure", "spread", "began", "seconds"), NUMBER),
    **dict.fromkeys(("figures", "folds"), NUMBERS),
    "parameters": {},
}


class Record:
    """The file as its one writer has it. A trial that cannot be written now is written with the next one."""

    def __init__(self, path: Path, size: int, waiting: bytes = b"") -> None:
        """Cuts the file to its first `size` bytes, and adds what is `waiting`."""
        self.path, self._size, self._waiting = path, size, waiting
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                self._lock()
                os.ftruncate(self._file, size)
                self._write()
                flush(path.parent)
            except (OSError, OptionsError):
                os.close(self._file)
                raise

    @classmethod
    def begin(cls, folder: Path, search: Mapping[str, Any]) -> Record:
        """Of a new search, with these settings, in the place of any other record.

        Raises OptionsError where another search has the file, and DataError where it cannot be written.
        """
        return cls(folder / NAME, 0, line({HEADER: search}))

    @classmethod
    def go_on(cls, before: Recorded) -> Record:
        """Of the search that was read; what was torn goes. Raises as `begin` does."""
        return cls(before.path, before.size)

    def add(self, trial: Trial) -> None:
        """Put it on the disk. Where that is full, the search is worth more: it is told, and the search goes on."""
        self._waiting += line(line_of(trial))
        self._attempt()

    def close(self) -> None:
        if self._waiting:
            self._attempt()
        os.close(self._file)

    def _attempt(self) -> None:
        try:
            self._write()
        except OSError as error:
            missing = plural(self._waiting.count(b"\n"), "line")
            LOG.warning("%s: cannot write (%s): %s missing: make room there", self.path, error.strerror, missing)

    def _write(self) -> None:
        """What a failed attempt has left is overwritten: the next one begins at the same place."""
        os.lseek(self._file, self._size, os.SEEK_SET)
        write_all(self._file, self._waiting)
        os.fsync(self._file)
        self._size += len(self._waiting)
        self._waiting = b""

    def _lock(self) -> None:
        """For as long as the file is open, where the file system has locks."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OptionsError(f"{self.path}: another search is writing it: name another --output") from None
        except OSError as error:
            LOG.debug("%s: not locked (%s)", self.path, error.strerror)


@dataclass(frozen=True)
class Recorded:
    """A record that was read: the settings of its search, a trial for each line, and the bytes of all these."""

    path: Path
    search: dict[str, Any]
    lines: tuple[Trial, ...]
    size: int

    @property
    def trials(self) -> list[Trial]:
        """Each as far as it has come, in the order in which they came there."""
        last: dict[int, Trial] = {}
        for trial in self.lines:
            last.pop(trial.number, None)
            last[trial.number] = trial
        return list(last.values())


def read_record(folder: Path) -> Recorded | None:
    """The record in that folder; None where none was begun. A torn last line is dropped, with a warning.

    Raises DataError, which names the file and the line, where it is damaged otherwise.
    """
    path = folder / NAME
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot read ({error.strerror}): name the --output of a search") from None
    size = whole(content)
    if not size and line({HEADER: {}}).startswith(content[: len(HEADER) + 4]):
        return None
    header, *rest = content[:size].split(b"\n")
    trials = tuple(trial_of(path, number, text) for number, text in enumerate(rest[:-1], 2))
    found = Recorded(path, search_of(path, header), trials, size)
    if size < len(content):
        LOG.warning("%s: the last line is torn, and dropped", path)
    return found


def whole(content: bytes) -> int:
    """The bytes of all lines, without a last one that has no end or, where the power went, a hole in it."""
    size = content.rfind(b"\n") + 1
    start = content.rfind(b"\n", 0, max(0, size - 1)) + 1
    return size if size < len(content) or isinstance(parsed(content[start:size]), dict) else start


def parsed(text: bytes) -> Any:
    """None for what is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def search_of(path: Path, header: bytes) -> dict[str, Any]:
    """What the first line says. Raises DataError."""
    document = parsed(header)
    if not isinstance(document, dict) or list(document) != [HEADER] or not isinstance(document[HEADER], dict):
        raise DataError(f"{path}: not the record of a search: name another --output")
    return dict(document[HEADER])


def trial_of(path: Path, number: int, text: bytes) -> Trial:
    """The trial of that line of the file. Raises DataError where it is none."""
    document = parsed(text)
    try:
        if not isinstance(document, dict) or not fits(document, SHAPE):
            raise ValueError
        told = {name: value_of(SHAPE[name], value) for name, value in document.items()}
        return Trial(**{**told, "status": Status(told["status"])})
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path}, line {number}: not a trial: mend the line, or remove it") from None


def value_of(kind: Any, value: Any) -> Any:
    """What a line has, as a trial wants it: null is NaN. Raises TypeError or ValueError where there can be no null."""
    if kind is NUMBERS:
        return tuple(value_of(NUMBER, one) for one in value)
    if kind is NUMBER:
        return math.nan if value is None else float(value)
    if value is None:
        raise ValueError
    return value


def line_of(trial: Trial) -> dict[str, Any]:
    """What JSON has no form for becomes what it has one for, but for the parameters, which are plain already."""
    told = {field.name: getattr(trial, field.name) for field in fields(trial)}
    known = {name: value for name, value in told.items() if value is not None}
    return {**strict(known), "parameters": dict(trial.parameters)}


def line(document: Mapping[str, Any]) -> bytes:
    """In ASCII, so that a text which is no Unicode, such as a file's name in an error, is kept as well."""
    return json.dumps(document, allow_nan=False).encode() + b"\n"
