"""The flags for late and for bad updates: each is read, and wrong ones are one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnlo import Algo
from nnlo.algos.base import Lineage
from nnlo.algos.downpour import Downpour
from nnlo.cli import build
from nnlo.comm.costs import Costs
from nnlo.comm.virtual import VirtualWorld
from nnlo.drivers import TrainingDriver
from nnlo.errors import OptionsError
from nnlo.training.arguments import ModelArguments, TrainingArguments
from tests.driving import COMMON, prepare_folder, refusal, run_driver, write_h5
from tests.jobs import labelled


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_folder(tmp_path, monkeypatch)


def downpour(flags: str) -> Downpour:
    layers = (TrainingDriver.command().parse(flags.split()),)
    algo = TrainingDriver.make_algo(build(ModelArguments, *layers), build(TrainingArguments, *layers), layers)
    assert isinstance(algo.algorithm, Downpour)
    return algo.algorithm


@pytest.mark.parametrize(
    ("flags", "divisors"),
    [("", [1, 1, 1]), ("--staleness none", [1, 1, 1]), ("--staleness inverse", [1, 1, 2]),
     ("--staleness inverse-plus-one", [1, 2, 3])],
)  # fmt: skip
def test_staleness(flags: str, divisors: list[int]) -> None:
    assert [downpour(flags).divisor(delay) for delay in (0, 1, 2)] == divisors


@pytest.mark.parametrize(
    ("flags", "late"),
    [("", None), ("--max-staleness 0", 1), ("--max-staleness 3", 4), ("--synchronous --backup-workers 1", 1)],
)
def test_max_staleness(flags: str, late: int | None) -> None:
    algorithm = downpour(flags)
    refused = [delay for delay in range(9) if not algorithm.accepts(Lineage(1, 0, delay, 4), {})]
    assert refused == list(range(late or 9, 9))


def test_the_others_are_read() -> None:
    assert downpour("--delay-compensation 0.5").options.delay_compensation == 0.5
    assert downpour("--synchronous --backup-workers 2").backup_workers == 2
    flags = ["--staleness", "inverse", "--max-staleness", "7", "--delay-compensation", "0.25", "--max-bad-updates", "3"]
    recorded = run_driver("--epochs", "1", *flags)["arguments"]
    wanted = {"staleness": "inverse", "max_staleness": 7, "delay_compensation": 0.25, "backup_workers": 0}
    assert wanted.items() <= recorded.items() and recorded["max_bad_updates"] == 3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--staleness half", "--staleness: unknown value 'half': choose one of none, inverse, inverse-plus-one"),
        ("--max-staleness -1", "--max-staleness must be at least 0, not -1"),
        ("--max-staleness 1.5", "--max-staleness must be a whole number, not '1.5'"),
        ("--delay-compensation -0.1", "--delay-compensation must be at least 0, not -0.1"),
        ("--delay-compensation inf", "--delay-compensation must be a finite number, not inf"),
        ("--backup-workers -1", "--backup-workers must be at least 0, not -1"),
        ("--backup-workers 1", "--backup-workers has no effect without --synchronous: add that, or drop it"),
        *(
            (f"--synchronous {flag} {value}", f"{flag} has no effect with --synchronous, which applies no late update")
            for flag, value in (("--staleness", "inverse"), ("--max-staleness", 0), ("--delay-compensation", 0.1))
        ),
        (
            "--synchronous --backup-workers 1",
            "--backup-workers 1 must be below the number of workers, which is 1: lower it or start more ranks",
        ),
        ("--mode allreduce --staleness inverse", "--staleness is not read by --mode allreduce, but by downpour"),
        ("--max-bad-updates 0", "--max-bad-updates must be at least 1, not 0"),
        ("--max-bad-updates few", "--max-bad-updates must be a whole number, not 'few'"),
    ],
)
def test_wrong_use(flags: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys)(*flags.split()).startswith(said)


@pytest.mark.parametrize(
    "options",
    [{"staleness": "linear"}, {"max_staleness": -1}, {"delay_compensation": "much"}, {"backup_workers": 1},
     {"synchronous": True, "max_staleness": 3}],
)  # fmt: skip
def test_python_says_the_same(options: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=r"--(staleness|max-staleness|delay-compensation|backup-workers)"):
        Algo("sgd", **options)


def with_bad_samples(first: int, last: int) -> None:
    x, y = labelled(60)
    x[first:last] = np.nan
    write_h5("a.h5", features=x, labels=y)
    Path("train.list").write_text("a.h5\n")


def test_so_many_bad_updates_end_the_command_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    """One sample of each of the six batches is nan."""
    with_bad_samples(0, 60)
    for most, count in ((3, 3), (10, 10)):
        with pytest.raises(SystemExit) as left:
            TrainingDriver.main([*COMMON, "--epochs", "2", "--max-bad-updates", str(most)])
        assert left.value.code == 1
        assert f"{count} updates in a row were inf or nan, the last from rank 1" in capsys.readouterr().err
        assert json.loads(Path("mlp_t_history.json").read_text())["outcome"].startswith(f"failed: {count} updates")


def test_a_few_are_told_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with_bad_samples(0, 1)
    history = run_driver("--epochs", "1")
    assert history["epochs"][0]["refused"] == 1
    out = capsys.readouterr().out
    assert "1 updates (10 samples) were inf or nan and refused" in out and "too late" not in out


def test_late_ones_are_told_at_the_end(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    world = VirtualWorld(3, costs=Costs(compute=lambda peer, samples: 1e-3 * (1 + 4 * (peer == 2))))
    monkeypatch.setattr(TrainingDriver, "world_comm", lambda: world)
    late = run_driver("--epochs", "3", "--max-staleness", "1")["epochs"]
    count, samples = (sum(entry[name] for entry in late) for name in ("late", "late_samples"))
    assert count > 0 and samples == 10 * count
    out = capsys.readouterr().out
    assert f"{count} updates ({samples:,} samples) came too late and were not applied" in out
    assert "inf or nan" not in out
