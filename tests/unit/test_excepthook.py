"""What a program does not catch: told as ever, and, where other ranks would wait, the end of all of them."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from nnlo import excepthook
from nnlo.comm import mpi
from nnlo.errors import OptionsError


def end(error: Exception, monkeypatch: pytest.MonkeyPatch, size: int | None, running: bool = True) -> list[Any]:
    """What is told and done of an uncaught error, in a process of so many ranks; None: without MPI."""
    done: list[Any] = []
    comm = SimpleNamespace(size=size)
    fake = SimpleNamespace(Is_initialized=lambda: running, Is_finalized=lambda: not running, COMM_WORLD=comm)
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", None if size is None else fake)
    monkeypatch.setattr(mpi, "abort", lambda: done.append("abort"))
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: done.append(kind))
    excepthook.install()
    sys.excepthook(type(error), error, None)
    return done


def test_with_company_all_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert end(KeyError("x"), monkeypatch, size=3) == [KeyError, "abort"]
    assert end(OptionsError("x"), monkeypatch, size=3) == [OptionsError, "abort"]


def test_what_all_ranks_raise_ends_them_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    error = OptionsError("x")
    error.agreed = True
    assert end(error, monkeypatch, size=3) == [OptionsError]


@pytest.mark.parametrize(("size", "running"), [(1, True), (None, True), (3, False)])
def test_alone_it_is_only_told(size: int | None, running: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    assert end(KeyError("x"), monkeypatch, size, running) == [KeyError]
