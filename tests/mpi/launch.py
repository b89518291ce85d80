"""Starts MPI jobs for tests: whatever happens, a job ends at its timeout and leaves no process behind.

result = launch(3, ["TrainingDriver", "--model", "mnist"], mpi="mpich", timeout=60)
assert result.code == 0, result

with Job(3, "program.py", mpi="openmpi") as job:
    job.send_signal(signal.SIGUSR1)
    result = job.finish(timeout=20)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

PREFIX = Path(sys.prefix)
MARKER = "NNLO_TEST_JOB"
GRACE = 3.0
"""Seconds that the processes of a job may live on after its mpirun."""


@dataclass(frozen=True)
class Implementation:
    """One MPI: where it lives, what shows that it is there, and what its mpirun needs on a small machine."""

    prefix: Path
    library: str
    witness: str
    flags: tuple[str, ...]
    variables: Mapping[str, str]

    @property
    def mpirun(self) -> Path:
        return self.prefix / "bin" / "mpirun"

    @property
    def installed(self) -> bool:
        parts = (self.mpirun, self.prefix / "lib" / self.library, self.prefix / "bin" / self.witness)
        return all(part.exists() for part in parts)


IMPLEMENTATIONS = {
    "mpich": Implementation(PREFIX, "libmpi.so.12", "mpichversion", (), {}),
    "openmpi": Implementation(
        PREFIX / "openmpi",
        "libmpi.so.40",
        "ompi_info",
        ("--oversubscribe", "--bind-to", "none"),
        {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_btl": "self,sm"},
    ),
}
NOT_INHERITED = (
    *("OMPI_", "PMIX_", "PRTE_", "PMI_", "MPICH_", "HYDRA_", "MPI_", "MPIEXEC_", "SLURM_", "MPI4PY_"),
    "PYTHON",  # unbuffered output would let the lines of two ranks run into one another
)


def available() -> list[str]:
    """The names of the MPIs installed beside this interpreter."""
    return [name for name, mpi in IMPLEMENTATIONS.items() if mpi.installed]


class JobFailure(AssertionError):
    """A job that passed its timeout, or that left processes behind; `result` is what it said until then."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(f"{message}\n{result}")
        self.result = result


@dataclass(frozen=True)
class Result:
    """How a job ended: mpirun's exit code, all that the ranks wrote, and the seconds it took."""

    code: int
    stdout: str
    stderr: str
    seconds: float

    def __str__(self) -> str:
        head = f"exit code {self.code} after {self.seconds:.1f} s"
        return f"{head}\n--- stdout ---\n{self.stdout[-4000:]}\n--- stderr ---\n{self.stderr[-4000:]}"


class Job:
    """A running mpirun. Leaving the `with` block kills what is left of it.

    `program` is an argument list, or the path of one Python script; a list that starts with a `.py` file is run by
    this interpreter too. `env` goes on top of a clean environment with one OpenMP thread a rank.
    """

    def __init__(
        self,
        np: int,
        program: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
        *,
        mpi: str = "mpich",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        chosen = IMPLEMENTATIONS[mpi]
        self.command = [str(chosen.mpirun), "-np", str(np), *chosen.flags, *flags, *_arguments(program)]
        self.mark = f"{MARKER}={uuid.uuid4().hex}"
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        self._started = time.monotonic()
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            env=_environment(chosen, env or {}, self.mark),
            cwd=cwd,
            start_new_session=True,
        )

    def __enter__(self) -> Job:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()
        self._out.close()
        self._err.close()

    def finish(self, timeout: float = 60.0) -> Result:
        """Waits for mpirun and then for its ranks. JobFailure: not done in `timeout` seconds, or processes left."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise JobFailure(f"killed at its timeout of {timeout:g} s: {self._line()}", self.result()) from None
        left = self._left_after(GRACE)
        if left:
            names = ", ".join(f"{pid} ({_command_line(pid)})" for pid in left)
            self.kill()
            raise JobFailure(
                f"processes left behind {GRACE:g} s after the end of {self._line()}: {names}", self.result()
            )
        return self.result()

    def result(self) -> Result:
        """What the job has written so far; its exit code is 0 while it runs."""
        seconds = time.monotonic() - self._started
        return Result(self.process.poll() or 0, _read(self._out.fileno()), _read(self._err.fileno()), seconds)

    def send_signal(self, number: int) -> None:
        """Signals mpirun alone, as a batch system or Ctrl-C of a script does."""
        self.process.send_signal(number)

    def processes(self) -> list[int]:
        """The ids of the live processes of this job: mpirun, its proxies, the ranks and what they started."""
        return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if self._owns(pid)]

    def kill(self) -> None:
        """Ends every process of the job; nothing where none is left."""
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            for pid in left:
                _kill(pid)
            if self.process.poll() is None:
                self.process.wait(5)
            time.sleep(0.02)
        self.process.wait(5)

    def _owns(self, pid: int) -> bool:
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return False
        return self.mark.encode() in variables.split(b"\0")

    def _left_after(self, seconds: float) -> list[int]:
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def _line(self) -> str:
        return " ".join(self.command)


def launch(
    np: int,
    program: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    *,
    mpi: str = "mpich",
    timeout: float = 60.0,
    env: Mapping[str, str] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    flags: Sequence[str] = (),
) -> Result:
    """Runs `program` on `np` ranks to its end. JobFailure: past the timeout, or a process left."""
    with Job(np, program, mpi=mpi, env=env, cwd=cwd, flags=flags) as job:
        return job.finish(timeout)


def _arguments(program: Sequence[str | os.PathLike[str]] | str | os.PathLike[str]) -> list[str]:
    listed = [program] if isinstance(program, (str, os.PathLike)) else program
    arguments = [os.fspath(argument) for argument in listed]
    return [sys.executable, *arguments] if arguments[0].endswith(".py") else arguments


def _environment(mpi: Implementation, given: Mapping[str, str], mark: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    path = [str(mpi.prefix / "bin"), str(PREFIX / "bin"), env.get("PATH", os.defpath)]
    env |= {
        "PATH": os.pathsep.join(path),
        "OMP_NUM_THREADS": "1",
        "MPI4PY_LIBMPI": str(mpi.prefix / "lib" / mpi.library),
    }
    env.setdefault("HOME", os.path.expanduser("~"))  # Open MPI refuses to start without
    return {**env, **mpi.variables, **given, MARKER: mark.removeprefix(f"{MARKER}=")}


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "gone"


def _read(fd: int) -> str:
    return os.pread(fd, os.fstat(fd).st_size, 0).decode(errors="replace")
