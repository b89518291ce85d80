"""How a process ends where ranks outlive others: without MPI's own end, which would wait for the dead."""

from __future__ import annotations

import atexit
import os
import sys

_code: list[int] = []


def end_without_mpi() -> None:
    """From now on this process ends as soon as Python is done."""
    atexit.unregister(_leave)
    atexit.register(_leave)


def end_with(code: int) -> None:
    """The exit code, where the program ends by one: at exit Python does not tell it."""
    _code[:] = [code]


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_code[0] if _code else int(hasattr(sys, "last_value")))
