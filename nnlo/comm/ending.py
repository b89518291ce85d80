"""How a process ends where ranks outlive others: without MPI's own end, which would wait for the dead."""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any, NoReturn

_exit = sys.exit
_codes: list[int] = []


def end_without_mpi() -> None:
    """From now on this process ends as soon as Python is done, with the code that `sys.exit` is given."""
    sys.exit = _noted


def _noted(status: Any = None) -> NoReturn:
    """Python does not tell at exit what it was called with."""
    _codes[:] = [code_of(status)]
    _exit(status)


def code_of(status: Any) -> int:
    """The exit code that Python makes of what `sys.exit` is given."""
    return status if isinstance(status, int) else int(status is not None)


@atexit.register  # here, since what is registered later runs sooner, and is to run at all
def _leave() -> None:
    if sys.exit is _noted:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_codes[0] if _codes else int(hasattr(sys, "last_value")))
