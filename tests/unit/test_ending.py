"""A process that ends without MPI's own end leaves with the code that it would have left with."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys
from nnlo.comm.ending import end_without_mpi
atexit.register(print, "said", end="")
end_without_mpi()
end_without_mpi()
{}
"""


@pytest.mark.parametrize(
    ("last", "code"),
    [("", 0), ("sys.exit()", 0), ("sys.exit(3)", 3), ("sys.exit('no')", 1), ("sys.exit(True)", 1), ("1 / 0", 1)],
)
def test_the_exit_code_is_kept(last: str, code: int) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(last)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (code, "said"), done.stderr
    assert ("no" in done.stderr) == ("no" in last)
