"""Starts what the benchmarks measure: one thread a process, with the commands that lie beside this interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
ONE_THREAD = {**os.environ, "PATH": PATH, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
LONGEST = 600
"""Seconds that one run may take."""


def said(command: Sequence[str], **variables: str) -> str:
    """What a command prints. Raises where it takes too long; where it fails, it has said why."""
    environment = {**ONE_THREAD, **variables}
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONGEST, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stderr}{' '.join(command)}: exit code {done.returncode}")
    return done.stdout


def figures(command: Sequence[str], **variables: str) -> Any:
    """The last line that it prints, as JSON."""
    return json.loads(said(command, **variables).splitlines()[-1])


def ranks_of(script: str, ranks: int, *arguments: object, **variables: str) -> Any:
    """The figures of `script --rank ARGUMENTS` on so many ranks."""
    command = ["mpirun", "-np", str(ranks), sys.executable, script, "--rank", *map(str, arguments)]
    return figures(command, **variables)


def side_by_side(commands: Sequence[Sequence[str]], **variables: str) -> int:
    """The exit code of several commands that run at once: that of the worst."""
    running = [subprocess.Popen(command, env={**ONE_THREAD, **variables}) for command in commands]
    return max(one.wait(timeout=LONGEST) for one in running)
