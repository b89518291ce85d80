"""Freed memory is kept for the next batch, unless the user has said otherwise."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from functools import partial

import pytest

import nnlo.manager.manager
from nnlo.allocation import VARIABLES, keep_freed_memory
from nnlo.errors import DataError

GLIBC = hasattr(ctypes.CDLL(None), "gnu_get_libc_version")

PAGES = """
import resource, sys, torch
from nnlo.allocation import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory({})
for turn in range(20):
    if turn == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    pieces = [torch.zeros(2**20) for _ in range(8)]
    del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.parametrize("name", VARIABLES)
def test_what_the_environment_says_counts(name: str) -> None:
    assert not keep_freed_memory({name: "1"})


@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_what_was_freed_is_used_again() -> None:
    """Beside a process that gives back all that is large; left alone, glibc does that or not, as its heap lies."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(128 << 10)}

    def pages(how: str) -> int:
        command = [sys.executable, "-c", PAGES, how]
        run = partial(subprocess.run, capture_output=True, text=True, check=True, timeout=60)
        return int(run(command, env=environment).stdout)

    assert pages("kept") < 100 < pages("as it is")


def test_a_training_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(nnlo.manager.manager, "keep_freed_memory", lambda: asked.append(True))
    data = nnlo.H5Data(100)
    manager = nnlo.MPIManager(None, data, nnlo.Algo("sgd"), nnlo.ModelPytorch(None, "mlp"), 1, [], None, output=None)
    with pytest.raises(DataError):  # there are no files, which is found out afterwards
        manager.train()
    assert asked
