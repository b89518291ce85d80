"""Kill workers at random moments, many times in each mode, and see that the others end as they should.

    python benchmarks/kills.py --count 50 --out kills.json

Each job has five ranks, a tree seven, under Open MPI's `mpirun --with-ft ulfm`, and one or two of its workers are
killed with SIGKILL while it trains. It ends well with exit code 0, every sample counted once an epoch, nobody in the
history's `lost` but those, and nothing left: no process, and no shared memory with a name of ours. The same seed kills
the same ranks, at moments that depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from launch import ONE_THREAD

SAMPLES, FEATURES, BATCH, EPOCHS = 6_000, 64, 20, 15
SGD = "--optimizer sgd --lr 0.01"
MODES = {
    "downpour": SGD,
    "downpour --synchronous": f"{SGD} --synchronous",
    "downpour --pipeline": f"{SGD} --pipeline",
    "downpour --hogwild": f"{SGD} --hogwild",
    "easgd": "--mode easgd --elastic-lr 0.01",
    "gem": "--mode gem",
    "sign": "--mode sign",
    "vote": "--mode vote",
    "downpour --n-masters 3": f"{SGD} --n-masters 3",
    "allreduce": f"{SGD} --mode allreduce",
    "allreduce --compress topk": f"{SGD} --mode allreduce --compress topk:ratio=0.1",
    "local": "--mode local --sync-every 4",
    "vote --exchange collective": "--mode vote --exchange collective",
}
MARK = "NNLO_KILLS"
#: Seconds of training until the latest kill; a job may take so long in all.
LATEST, LONGEST = 3.0, 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10, help="jobs of each mode")
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES, metavar="MODE")
    parser.add_argument("--transport", default="auto", choices=("auto", "shm", "mpi"))
    parser.add_argument("--mpirun", default="mpirun", help="Open MPI's, where another one is on the PATH")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {mode: [] for mode in arguments.modes}
    with tempfile.TemporaryDirectory() as folder:
        listed = written(Path(folder))
        for turn in range(arguments.count):
            for mode in arguments.modes:
                chance = random.Random(f"{arguments.seed} {mode} {turn}")
                result = Killing(mode, arguments.transport, arguments.mpirun, chance).run(listed, Path(folder))
                found[mode].append(result)
                print(f"{turn + 1}/{arguments.count}  {mode:26} {result}", flush=True)
    print(table(found))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=1))
    sys.exit(any(result["fault"] for results in found.values() for result in results))


def written(folder: Path) -> Path:
    """A list of HDF5 files of random samples."""
    rng = np.random.default_rng(0)
    names = [folder / f"{number}.h5" for number in range(4)]
    for name in names:
        with h5py.File(name, "w") as file:
            file["features"] = rng.random((SAMPLES // len(names), FEATURES), dtype=np.float32)
            file["labels"] = rng.integers(0, 10, SAMPLES // len(names))
    (folder / "train.list").write_text("\n".join(map(str, names)))
    return folder / "train.list"


class Killing:
    """One job, and who of it is killed."""

    def __init__(self, mode: str, transport: str, mpirun: str, chance: random.Random) -> None:
        masters = 3 if "--n-masters" in mode else 1
        self.ranks = 7 if masters > 1 else 5
        self._flags = [*shlex.split(MODES[mode]), "--transport", transport]
        self._mark, self._mpirun = f"{MARK}={uuid.uuid4().hex}", mpirun
        workers = [rank for rank in range(1, self.ranks) if masters == 1 or rank not in (1, 4)]
        self.killed = sorted(chance.sample(workers, chance.choice((1, 1, 2))))
        self.moments = sorted(chance.uniform(0, LATEST) for _ in self.killed)

    def run(self, listed: Path, folder: Path) -> dict[str, Any]:
        """What happened: `fault` is None where all is as it should be."""
        for old in (*folder.glob("*_history.json"), folder / "log"):
            old.unlink(missing_ok=True)
        named = {name for name in os.listdir("/dev/shm") if "nnlo" in name}
        nothing = subprocess.DEVNULL
        job = subprocess.Popen(
            self._command(listed, folder), stdin=nothing, stdout=nothing, stderr=nothing,
            env=ONE_THREAD | self._library() | {MARK: self._mark.removeprefix(f"{MARK}=")}, start_new_session=True,
        )  # fmt: skip
        late = self._kill(job, folder / "log")
        try:
            job.wait(LONGEST)
        except subprocess.TimeoutExpired:
            fault: str | None = f"it hangs: {self._said(folder)}"
        else:
            fault = self._fault(job.returncode, folder)
        left = self._left(3.0)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        job.wait()
        if not fault and left:
            fault = f"{len(left)} processes are left"
        if not fault and (names := {name for name in os.listdir("/dev/shm") if "nnlo" in name} - named):
            fault = f"left in /dev/shm: {sorted(names)}"
        return {"killed": self.killed, "late": late, "fault": fault}

    def _library(self) -> dict[str, str]:
        """That of this mpirun, where it is named by its path."""
        library = Path(self._mpirun).absolute().parents[1] / "lib" / "libmpi.so.40"
        allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        return allowed | ({"MPI4PY_LIBMPI": str(library)} if library.exists() else {})

    def _command(self, listed: Path, folder: Path) -> list[str]:
        mpirun = [self._mpirun, "--with-ft", "ulfm", "--oversubscribe", "--bind-to", "none", "-np", str(self.ranks)]
        model = ["--model", "mlp", "--model-params", f"inputs={FEATURES},hidden=64", "--train-data", str(listed)]
        training = ["--batch", str(BATCH), "--epochs", str(EPOCHS), "--no-save-model", "--seed", "1"]
        files = ["--output", str(folder), "--trial-name", "t", "--overwrite", "--log-file", str(folder / "log")]
        return [*mpirun, sys.executable, "-m", "nnlo.drivers.TrainingDriver", *model, *training, *files, *self._flags]

    def _kill(self, job: subprocess.Popen[bytes], log: Path) -> list[float]:
        """Kill them at their moments; the seconds until each was noticed, where that was told."""
        until = time.monotonic() + LONGEST
        while not (log.exists() and "training samples" in log.read_text()):
            if job.poll() is not None or time.monotonic() > until:
                return []
            time.sleep(0.01)
        began, late = time.monotonic(), []
        for rank, moment in zip(self.killed, self.moments, strict=True):
            time.sleep(max(0.0, began + moment - time.monotonic()))
            for pid in self._processes(f"OMPI_COMM_WORLD_RANK={rank}"):
                os.kill(pid, signal.SIGKILL)
            late += noticed(log, rank, job)
        return late

    def _fault(self, code: int, folder: Path) -> str | None:
        if code:
            return f"exit code {code}: {self._said(folder)}"
        history = json.loads(next(folder.glob("*_history.json")).read_text())
        if history["epochs"][-1]["samples"] != EPOCHS * SAMPLES:
            return f"{history['epochs'][-1]['samples']} samples in the stead of {EPOCHS * SAMPLES}"
        unknown = {lost["rank"] for lost in history["lost"]} - set(self.killed)
        return f"lost, but not killed: {sorted(unknown)}" if unknown else None

    def _said(self, folder: Path) -> str:
        log = folder / "log"
        return " / ".join(log.read_text().splitlines()[-3:]) if log.exists() else ""

    def _processes(self, variable: str) -> list[int]:
        """Those of this job with this in their environment."""
        return [
            pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if {variable, self._mark} <= told(pid)
        ]

    def _left(self, seconds: float) -> list[int]:
        until = time.monotonic() + seconds
        while (left := self._processes(self._mark)) and time.monotonic() < until:
            time.sleep(0.05)
        return left


def noticed(log: Path, rank: int, job: subprocess.Popen[bytes]) -> list[float]:
    """The seconds until the log tells of it; none where it does not within two."""
    killed = time.monotonic()
    while time.monotonic() < killed + 2 and job.poll() is None:
        if f"rank {rank} is lost" in log.read_text():
            return [time.monotonic() - killed]
        time.sleep(0.002)
    return []


def told(pid: int) -> set[str]:
    """The environment of a process."""
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0"))
    except OSError:
        return set()


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    lines = ["", "| mode | jobs | ended well | workers killed | noticed after, ms: median (longest) |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for mode, results in found.items():
        late = [1e3 * one for result in results for one in result["late"]]
        said = f"{statistics.median(late):.0f} ({max(late):.0f})" if late else ""
        well, killed = sum(not result["fault"] for result in results), sum(len(one["killed"]) for one in results)
        lines.append(f"| {mode} | {len(results)} | {well} | {killed} | {said} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
