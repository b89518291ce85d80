"""Training over two hosts: ranks of one host exchange through memory that they share, the others by messages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.hosts import Hosts, missing
from tests.mpi.launch import IMPLEMENTATIONS, available

DRIVER = str(Path(sys.prefix) / "bin" / "TrainingDriver")
SECONDS = 60
DIGITS = 1437  # scikit-learn's, of which TrainingDriver trains on so many


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    if reason := missing():
        pytest.skip(reason)
    with Hosts(2, slots=3) as made:
        yield made


@pytest.mark.parametrize(
    ("ranks", "flags"), [(5, []), (6, ["--n-masters", "2"])], ids=["one master", "a tree of masters"]
)
def test_ranks_of_two_hosts_train_together(hosts: Hosts, tmp_path: Path, ranks: int, flags: list[str]) -> None:
    """h1 has the ranks 0 to 2, h2 the others; `--transport shm` is refused where ranks of a host share no memory."""
    train = [DRIVER, "--model", "mlp", "--epochs", "2", "--output", str(tmp_path), "--transport", "shm", *flags]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        hosts.mpirun(ranks, train), env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr.decode()
    (path,) = tmp_path.glob("*_history.json")
    history = json.loads(path.read_text())
    assert sorted(set(history["hosts"])) == ["h1", "h2"]
    assert history["epochs"][-1]["samples"] == 2 * DIGITS
    assert history["epochs"][-1]["val_acc"] > 0.6


@pytest.mark.skipif("openmpi" not in available(), reason="Open MPI is not installed here")
def test_a_worker_of_the_other_host_may_be_lost(hosts: Hosts, tmp_path: Path) -> None:
    """And the job ends all the same, although MPI's own end would wait for it."""
    script = Path(__file__).parent / "scripts" / "dying.py"
    settings = json.dumps({"kills": [[4, 3, 4]], "algo": {}, "manager": {}})
    prefix, options = IMPLEMENTATIONS["openmpi"].prefix, ["--with-ft", "ulfm"]
    command = hosts.mpirun(5, [sys.executable, str(script), str(tmp_path), settings], prefix, options)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads((tmp_path / "found.json").read_text())
    assert [lost["rank"] for lost in found["history"]["lost"]] == [4]
    assert found["w"] == [-2.0] * len(found["w"])
