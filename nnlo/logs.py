"""Log lines: when, who, what. The first rank's go to stderr, every rank's to a file where one is named.

       1.234 s  master 0  mnist: 12,810 parameters, ...

Seconds count from this process's start. A line may say with `extra` whose it is, {"rank": 3}, and whether it is for the
screen: `DETAIL` or `OFF_SCREEN`.
"""

from __future__ import annotations

import logging
import os
import re
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nnlo.errors import OptionsError

LOG = logging.getLogger("nnlo")
#: How each line of a log file begins.
LINE = re.compile(rb" *\d+\.\d{3} s  (master|worker) \d+  ")

DETAIL: dict[str, Any] = {"screen": logging.DEBUG}
"""For the file; the screen shows it with the debug lines alone."""
OFF_SCREEN: dict[str, Any] = {"screen": logging.NOTSET}
"""For the file alone, since the screen says it otherwise."""


def set_up(level: str, file: Path | None, rank: int) -> None:
    """Show lines of `level` and above; of ranks other than 0 the screen shows warnings and errors alone."""
    own = logging.getLevelName(level.upper())
    screen = Screen()
    screen.addFilter(lambda record: on_screen(record, own, rank))
    handlers: list[logging.Handler] = [screen]
    if file is not None:
        check_log(file)
        try:
            handlers.append(LineFile(file))
        except OSError as error:
            raise OptionsError(f"--log-file {file}: {error.strerror}: name a file that can be written") from None
    form = Line(rank)
    for handler in handlers:
        handler.setFormatter(form)
    for handler in LOG.handlers:
        handler.close()
    LOG.handlers, LOG.propagate = handlers, False
    LOG.setLevel(own)


def check_log(path: Path) -> None:
    """Raises OptionsError for a file that is there and holds something else than such lines, which stays as it is."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        begin = file.readline(200)
    if begin and not LINE.match(begin):
        raise OptionsError(f"--log-file {path} is there and is no log of nnlo: name another file")


def note_error(text: str) -> None:
    """Put what ends the job, and is printed otherwise, into the log file."""
    if LOG.handlers:
        LOG.error("%s", text, extra=OFF_SCREEN)


def on_screen(record: logging.LogRecord, level: int, rank: int) -> bool:
    """Whether the screen of the process of that rank shows this line."""
    shown: int = getattr(record, "screen", record.levelno)
    return shown >= (level if getattr(record, "rank", rank) == 0 else max(level, logging.WARNING))


class Line(logging.Formatter):
    """A line of the process of that rank, which began now."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self._rank, self._began = rank, time.time()

    def format(self, record: logging.LogRecord) -> str:
        rank = getattr(record, "rank", self._rank)
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        seconds = max(0.0, record.created - self._began)
        return f"{seconds:8.3f} s  {'worker' if rank else 'master'} {rank}  {level}{super().format(record)}"


class Screen(logging.StreamHandler):  # type: ignore[type-arg]
    """stderr; a bar that is there makes room for the line and is drawn again below it."""

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode(self.stream, nolock=True):
            super().emit(record)


class LineFile(logging.Handler):
    """Appends each line with one write: those of several processes on a host do not run into one another."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = -1
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            os.write(self._file, f"{self.format(record)}\n".encode())
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        super().close()
