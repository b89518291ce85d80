"""Log lines: when, which rank, what. The first rank's go to stderr, every rank's to a file where one is named."""

from __future__ import annotations

import logging
from pathlib import Path

from nnlo.errors import OptionsError

LOG = logging.getLogger("nnlo")


def set_up(level: str, file: Path | None, rank: int) -> None:
    """Show lines of `level` and above; ranks other than 0 show warnings and errors alone."""
    own = logging.getLevelName(level.upper())
    screen = logging.StreamHandler()
    screen.setLevel(own if rank == 0 else max(own, logging.WARNING))
    handlers: list[logging.Handler] = [screen]
    if file is not None:
        try:
            handlers.append(logging.FileHandler(file))
        except OSError as error:
            raise OptionsError(f"--log-file {file}: {error.strerror}: name a file that can be written") from None
    form = logging.Formatter(f"%(asctime)s rank {rank} %(levelname)s %(message)s", "%H:%M:%S")
    for handler in handlers:
        handler.setFormatter(form)
    LOG.handlers, LOG.propagate = handlers, False
    LOG.setLevel(own)
