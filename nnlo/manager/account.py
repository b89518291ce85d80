"""What is left of a training that fails: its history, and the report where one is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import ERROR, INFO

from nnlo.errors import describe
from nnlo.logs import LOG
from nnlo.roles.checkpoints import Checkpoints
from nnlo.training.files import OutputFiles
from nnlo.training.history import PREEMPTED, History


@contextmanager
def accounted(files: OutputFiles | None, history: History, seconds: Callable[[], float]) -> Iterator[None]:
    """Whatever is raised inside, Ctrl-C among it, leaves the history so far, then goes on; `seconds`: training clock.

    Where it was raised elsewhere, this role is closed by a GeneratorExit, whose context is the error itself.
    """
    try:
        yield
    except BaseException as error:
        cause = (isinstance(error, GeneratorExit) and error.__context__) or error
        history.setdefault("seconds", seconds())
        history.setdefault("stop_reason", None)
        history["outcome"] = f"failed: {describe(cause)}"
        write_account(files, history)
        raise


@contextmanager
def told_of(checkpoints: Checkpoints) -> Iterator[None]:
    """Whatever is raised inside is said in the folder of checkpoints as well."""
    try:
        yield
    except BaseException:
        checkpoints.tell("failed", 1)
        raise


def write_account(files: OutputFiles | None, history: History) -> None:
    """Write it and log where. A failure to write is logged alone: it is not what ended the training."""
    if files is None:
        return
    try:
        written = files.write_account(history)
    except Exception as error:
        LOG.error("the history of the training that failed is lost: %s", error)
    else:
        level, what = (INFO, "") if history["outcome"] == PREEMPTED else (ERROR, "the training failed: ")
        LOG.log(level, "%swrote %s", what, ", ".join(map(str, written)))
