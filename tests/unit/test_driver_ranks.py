"""The flags of what ranks are: read, and checked before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nnlo.comm.virtual import VirtualWorld
from nnlo.drivers import TrainingDriver
from tests.driving import prepare_folder, refusal, run_driver

Said = Callable[..., str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_folder(tmp_path, monkeypatch)


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has the driver find so many ranks."""
    return lambda size: monkeypatch.setattr(TrainingDriver, "world_comm", lambda: VirtualWorld(size))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Said:
    return refusal(capsys)


@pytest.mark.parametrize(
    ("size", "flags", "workers"),
    [
        (5, "--n-processes 2", {"1", "3"}),
        (5, "--n-masters 3", {"2", "4"}),
        (7, "--n_masters 3 --n_processes 2", {"2", "5"}),
        (3, "", {"1", "2"}),
    ],
)
def test_ranks_are_what_the_flags_say(size: int, flags: str, workers: set[str], ranks: Callable[[int], None]) -> None:
    ranks(size)
    history = run_driver("--epochs", "1", *flags.split())
    assert set(history["epochs"][0]["ranks"]) == workers
    given = dict(zip(flags.replace("_", "-").split()[::2], flags.split()[1::2], strict=True))
    assert history["arguments"]["n_masters"] == int(given.get("--n-masters", 1))
    assert history["arguments"]["n_processes"] == int(given.get("--n-processes", 1))


@pytest.mark.parametrize(
    ("size", "flags", "said"),
    [
        (6, "--n-processes 2", "6 ranks do not divide into a master and workers of 2 ranks each: start 5 or 7"),
        (6, "--n-masters 3", "6 ranks do not divide into a head and 2 masters with equal numbers of workers: start 5"),
        (4, "--n-masters 0", "--n-masters must be at least 1, not 0"),
        (4, "--n-processes 0", "--n-processes must be at least 1, not 0"),
        (4, "--n-processes two", "--n-processes must be a whole number, not 'two'"),
        (5, "--n-processes 2 --team-backend smoke", "--team-backend: unknown value 'smoke': choose one of mpi"),
        (5, "--n-processes 2 --team-backend gloo", "--team-backend gloo is for ranks in processes of their own"),
        (5, "--team-backend nccl", "--team-backend nccl has no effect with --n-processes 1: drop it"),
        (5, "--n-masters 3 --mode allreduce", "--n-masters 3: the workers of --mode allreduce exchange"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(
    size: int, flags: str, said: str, ranks: Callable[[int], None], refused: Said
) -> None:
    ranks(size)
    assert said in refused(*flags.split())


def test_one_process_has_no_teams(refused: Said) -> None:
    assert "this is one process, and that takes 3 or more: start mpirun -np 3" in refused("--n-processes", "2")
