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
