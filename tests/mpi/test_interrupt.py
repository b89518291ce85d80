"""Ctrl-C at mpirun: every rank ends, one line says so, and callbacks are closed."""

from __future__ import annotations

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
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "closed").exists()
