"""Kill whole jobs at random moments, and see that the same line goes on each time and comes to the same weights.

    python benchmarks/restores.py --count 100 --out restores.json

A job of three ranks trains with `--checkpoint-every 0.2s --restore auto`. All its processes are killed with SIGKILL,
mpirun first, at a random moment: while it starts, while it trains, while it writes. It is started again until it comes
to its end; then its last weights are compared, bit for bit, with those of a run that nobody stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from kills import FEATURES, told, written
from launch import ONE_THREAD

EPOCHS, RANKS = 40, 3
SGD = "--optimizer sgd --lr 0.01 --momentum 0.9"
MODES = {
    "downpour --synchronous": f"{SGD} --synchronous",
    "easgd --synchronous": "--mode easgd --elastic-lr 0.01 --synchronous",
    "vote": "--mode vote",
    "allreduce": f"{SGD} --mode allreduce",
    "local": "--mode local --sync-every 4",
}
MARK = "NNLO_RESTORES"
#: Seconds from its start until a job is killed.
LATEST, LONGEST = 5.0, 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20, help="kills in all")
    parser.add_argument("--mpirun", default="mpirun")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    arguments = parser.parse_args()
    chance, found, kills = random.Random(arguments.seed), list[dict[str, Any]](), 0
    with tempfile.TemporaryDirectory() as folder:
        listed = written(Path(folder))
        while kills < arguments.count:
            mode = list(MODES)[len(found) % len(MODES)]
            result = Trained(mode, arguments.mpirun, listed, Path(folder), len(found)).run(chance)
            kills += result["kills"]
            found.append(result)
            print(f"{kills}/{arguments.count}  {mode:24} {result}", flush=True)
    well = sum(not result["fault"] for result in found)
    print(f"{kills} kills of {len(found)} jobs, of which {well} came to the weights of a run that nobody stopped")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=1))
    sys.exit(well < len(found))


class Trained:
    """One training, in as many lives as it takes."""

    def __init__(self, mode: str, mpirun: str, listed: Path, folder: Path, seed: int) -> None:
        self._mpirun, self._listed, self._folder = mpirun, listed, folder
        self._flags = [*shlex.split(MODES[mode]), "--seed", str(seed)]
        self._base = folder / "checkpoints"

    def run(self, chance: random.Random) -> dict[str, Any]:
        """What happened: `fault` is None where all is as it should be."""
        shutil.rmtree(self._base, ignore_errors=True)
        kept = ["--checkpoint", str(self._base), "--checkpoint-every", "0.2s", "--restore", "auto"]
        kills, restored, code = 0, 0, -1
        while code < 0:
            code, said = self._life(chance.uniform(0.5, LATEST), "killed", *kept)
            kills, restored = kills + (code < 0), restored + ("goes on from checkpoint" in said)
        if code:
            return {"kills": kills, "restored": restored, "fault": f"exit code {code}: {said[-400:]}"}
        code, said = self._life(LONGEST, "whole")
        same = self._weights("killed") == self._weights("whole")
        return {"kills": kills, "restored": restored, "fault": None if same else "it came to other weights"}

    def _life(self, seconds: float, name: str, *flags: str) -> tuple[int, str]:
        """The exit code, -1 where it was killed after so many seconds, and what was said."""
        mark = f"{MARK}={uuid.uuid4().hex}"
        with tempfile.TemporaryFile() as log:
            job = subprocess.Popen(
                self._command(name, *flags), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                env=ONE_THREAD | {MARK: mark.removeprefix(f"{MARK}=")}, start_new_session=True,
            )  # fmt: skip
            try:
                code = job.wait(seconds)
            except subprocess.TimeoutExpired:
                code = -1
                end(job, mark)
            log.seek(0)
            return code, log.read().decode(errors="replace")

    def _command(self, name: str, *flags: str) -> list[str]:
        model = ["--model", "mlp", "--model-params", f"inputs={FEATURES},hidden=64", "--train-data", str(self._listed)]
        training = ["--batch", "20", "--epochs", str(EPOCHS), *self._flags, *flags]
        files = ["--output", str(self._folder), "--trial-name", name, "--overwrite"]
        driver = [sys.executable, "-m", "nnlo.drivers.TrainingDriver"]
        return [self._mpirun, "-np", str(RANKS), *driver, *model, *training, *files]

    def _weights(self, name: str) -> bytes:
        return (self._folder / f"mlp_{name}_weights.safetensors").read_bytes()


def end(job: subprocess.Popen[bytes], mark: str) -> None:
    """Kill mpirun and then all that is left of the job."""
    job.kill()
    job.wait()
    until = time.monotonic() + 10
    while (left := [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if mark in told(pid)]) and (
        time.monotonic() < until
    ):
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


if __name__ == "__main__":
    main()
