"""The launcher itself: output, exit codes, timeouts, and processes that are left."""

from __future__ import annotations

import signal
import sys
import time

import pytest

from tests.mpi.launch import Job, JobFailure, launch

HELLO = "from mpi4py import MPI; c = MPI.COMM_WORLD; print(f'{c.rank} of {c.size} by {MPI.Get_library_version()[:6]}')"
HANG = """
from mpi4py import MPI
import subprocess, sys
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)
print('up', flush=True)
MPI.COMM_WORLD.Barrier()
if MPI.COMM_WORLD.rank == 1:
    MPI.COMM_WORLD.recv(source=0)
"""
LEAVES = """
from mpi4py import MPI
import subprocess, sys
subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True, close_fds=True,
                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
"""
SIGNALLED = """
from mpi4py import MPI
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))
MPI.COMM_WORLD.Barrier()
print('up', flush=True)
time.sleep(60)
"""


def wait_until_up(job: Job, ranks: int) -> None:
    deadline = time.monotonic() + 20
    while job.result().stdout.count("up") < ranks:
        assert time.monotonic() < deadline, job.result()
        time.sleep(0.05)


def test_hello(mpi: str) -> None:
    result = launch(3, [sys.executable, "-c", HELLO], mpi=mpi)
    name = {"mpich": "MPICH ", "openmpi": "Open M"}[mpi]
    assert result.code == 0, result
    assert sorted(result.stdout.splitlines()) == [f"{rank} of 3 by {name}" for rank in range(3)]


def test_exit_code_is_passed_on(mpi: str) -> None:
    result = launch(2, [sys.executable, "-c", "from mpi4py import MPI; raise SystemExit(2)"], mpi=mpi)
    assert result.code == 2, result


def test_job_that_hangs_is_killed_with_all_it_started(mpi: str) -> None:
    with Job(2, [sys.executable, "-c", HANG], mpi=mpi) as job:
        wait_until_up(job, 2)
        assert len(job.processes()) >= 5
        with pytest.raises(JobFailure, match="killed at its timeout of 1 s") as caught:
            job.finish(timeout=1)
        assert job.processes() == []
    assert caught.value.result.stdout.count("up") == 2


def test_process_left_behind_is_noticed_and_ended(mpi: str) -> None:
    with Job(2, [sys.executable, "-c", LEAVES], mpi=mpi) as job:
        with pytest.raises(JobFailure, match=r"(?s)left behind .*import time; time\.sleep"):
            job.finish()
        assert job.processes() == []


def test_signal_reaches_the_ranks(mpi: str) -> None:
    with Job(2, [sys.executable, "-c", SIGNALLED], mpi=mpi) as job:
        wait_until_up(job, 2)
        job.send_signal(signal.SIGUSR1)
        assert job.finish(timeout=10).code == 0


def test_one_thread_a_rank_unless_told(mpi: str) -> None:
    program = [sys.executable, "-c", "import os; print(os.environ['OMP_NUM_THREADS'])"]
    assert launch(1, program, mpi=mpi).stdout == "1\n"
    assert launch(1, program, mpi=mpi, env={"OMP_NUM_THREADS": "2"}).stdout == "2\n"
