"""Ctrl-C at mpirun: every rank ends, one line says so, callbacks are closed, and no weights are left."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

from nnlo.data.prepare import prepare
from tests.mpi.launch import Job

MINE = """
from pathlib import Path
from nnlo import Callback

class Closes(Callback):
    def close(self):
        Path(__file__).with_name("closed").touch()
"""


def test_ctrl_c_ends_all_ranks_with_one_line(tmp_path: Path) -> None:
    prepare("digits", tmp_path)
    log = tmp_path / "log"
    (tmp_path / "mine.py").write_text(MINE)
    flags = ["--epochs", "100000", "--output", str(tmp_path / "out"), "--log-file", str(log)]
    flags += ["--callback", f"{tmp_path / 'mine.py'}:Closes"]
    with Job(3, ["TrainingDriver", *flags], mpi="mpich", env={"NNLO_DATA": str(tmp_path)}) as job:
        until = time.monotonic() + 60
        while not (log.exists() and "a master and 2 workers" in log.read_text()):
            assert time.monotonic() < until, job.result()
            time.sleep(0.1)
        time.sleep(0.5)
        job.send_signal(signal.SIGINT)
        result = job.finish(timeout=15)
    assert result.code != 0
    assert result.stderr.count("interrupted") == 1, result
    assert "Traceback" not in result.stderr
    left = list((tmp_path / "out").glob("*"))  # the history so far, unless mpirun was quicker
    assert all(json.loads(path.read_text())["outcome"] == "failed: KeyboardInterrupt" for path in left)
    assert len(left) <= 1
    assert (tmp_path / "closed").exists()
