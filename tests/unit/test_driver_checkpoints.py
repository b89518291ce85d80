"""Flags of checkpoints: what is kept, what is gone on from, and what is refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nnlo.drivers import TrainingDriver
from tests.driving import COMMON, prepare_folder, refusal, run_driver

EPOCHS = ["--epochs", "4", "--seed", "3"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_folder(tmp_path, monkeypatch)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    return refusal(capsys)


def kept() -> list[str]:
    return sorted(path.name for path in Path("cp").iterdir() if path.is_dir())


def test_a_longer_training_goes_on_from_a_shorter_one() -> None:
    whole = run_driver(*EPOCHS)
    run_driver("--epochs", "2", "--seed", "3", "--checkpoint", "cp")
    again = run_driver(*EPOCHS, "--restore", "cp")
    assert [entry["loss"] for entry in again["epochs"]] == [entry["loss"] for entry in whole["epochs"]]
    (point,) = again["restored"]
    assert point["checkpoint"] == "cp/000001" and point["samples"] == 120 and point["ranks"] == 2
    assert again["seconds"] > point["seconds"] > 0


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ("--checkpoint-interval 1", ["000003", "000004"]),
        ("--checkpoint-interval 1 --keep 1", ["000004"]),
        ("--checkpoint-interval 2 --keep 9", ["000001", "000002"]),
        ("", ["000001"]),
        ("--checkpoint-interval 9 --checkpoint-every 0.000001s --keep 99", [f"{n:06d}" for n in range(1, 25)]),
    ],
)
def test_when_there_are_checkpoints(flags: str, names: list[str]) -> None:
    run_driver(*EPOCHS, "--checkpoint", "cp", *flags.split())
    assert kept() == names
    assert json.loads(Path("cp/status.json").read_text()) == {"state": "done", "checkpoint": names[-1], "exit_code": 0}


def test_the_best_one_is_kept() -> None:
    """At a rate like this the first epoch is the best one."""
    bad = ["--optimizer", "sgd", "--lr", "3", "--val-data", "val.list", "--keep-best", "val_loss", "--keep", "1"]
    history = run_driver(*EPOCHS, *bad, "--checkpoint", "cp", "--checkpoint-interval", "1")
    losses = [entry["val_loss"] for entry in history["epochs"]]
    best = f"{losses.index(min(losses)) + 1:06d}"
    assert Path("cp/best").read_text() == f"{best}\n"
    assert kept() == sorted({best, "000004"})


def test_auto_begins_where_there_is_nothing_and_goes_on_where_there_is() -> None:
    auto = ["--checkpoint", "cp", "--restore", "auto"]
    assert run_driver("--epochs", "2", *auto)["restored"] == []
    assert run_driver("--epochs", "3", *auto)["restored"][0]["samples"] == 120


def test_a_training_that_is_done_ends_well_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    run_driver(*EPOCHS, "--checkpoint", "cp")
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        TrainingDriver.main([*COMMON, *EPOCHS, "--checkpoint", "cp", "--restore", "auto"])
    assert left.value.code == 0
    assert capsys.readouterr().err == (
        "TrainingDriver: cp/000001: all 4 epochs are done: ask for more --epochs to go on\n"
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--batch 20", "--restore cp: its run had --batch 10, and this one has --batch 20: give the same"),
        ("--seed 4", "its run had --seed 3, and this one has --seed 4"),
        ("--mode easgd", "its run had --mode downpour, and this one has --mode easgd"),
        ("--compress fp16", "its run had --compress none, and this one has --compress fp16"),
        ("--amp bf16", "its run had --amp None, and this one has --amp bfloat16"),
        ("--synchronous", "its run had synchronous: False, and this one has synchronous: True"),
        ("--optimizer adagrad", "its run had --optimizer adam, and this one has --optimizer adagrad"),
        ("--model-params inputs=8,hidden=5,classes=4", "its run trained another model: give the same"),
        ("--train-data val.list", "its run had 60 training samples, and this one has 20 training samples"),
    ],
)
def test_a_job_does_not_go_on_from_another_one(
    flags: str, said: str, refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_driver(*EPOCHS, "--checkpoint", "cp")
    capsys.readouterr()
    assert said in refused("--epochs", "5", "--seed", "3", "--restore", "cp", *flags.split())


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--restore nowhere",
            "--restore nowhere: no checkpoint there: name another folder, or train without --restore",
        ),
        ("--restore auto", "--restore auto looks into the folder of --checkpoint"),
        ("--restore train.list", "train.list: cannot read (Not a directory): name a folder of checkpoints"),
        ("--keep-best val_acc", "--keep-best is for --checkpoint"),
        ("--keep-best val_acc --checkpoint cp", "--keep-best val_acc: not measured"),
        ("--checkpoint-every soon --checkpoint cp", "--checkpoint-every 'soon': give a time, as 90s, 10m or 2h"),
        ("--checkpoint train.list", "--checkpoint train.list: cannot write there (File exists): name another folder"),
    ],
)
def test_what_cannot_be_is_refused(flags: str, said: str, refused: Callable[..., str]) -> None:
    assert said in refused(*flags.split())


def test_a_damaged_checkpoint_is_left_for_the_one_before(
    refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_driver("--epochs", "2", "--checkpoint", "cp", "--checkpoint-interval", "1")
    damaged = Path("cp/000002/master.safetensors")
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    history = run_driver(*EPOCHS, "--restore", "cp", "--seed", "0")
    assert history["restored"][0]["checkpoint"] == "cp/000001"
    said = capsys.readouterr().err
    assert "cp/000002/master.safetensors: damaged" in said and "restoring cp/000001, the one before" in said
    shutil.rmtree("cp/000001")
    assert "damaged: it is not as it was written, and cp has no other" in refused("--restore", "cp")


def test_what_callbacks_write_is_of_the_whole_run() -> None:
    whole = ["--csv", "--jsonl", "--save-best", "val_loss", "--val-data", "val.list", "--validate-every", "4"]
    run_driver(*EPOCHS, *whole)
    csv, jsonl = (Path(f"mlp_t_metrics.{ending}").read_text() for ending in ("csv", "jsonl"))
    best = Path("mlp_t_best.safetensors").read_bytes()
    run_driver("--epochs", "2", "--seed", "3", *whole, "--checkpoint", "cp")
    run_driver(*EPOCHS, *whole, "--restore", "cp")
    again = [json.loads(line) for line in Path("mlp_t_metrics.jsonl").read_text().splitlines()]
    assert [(one["event"], one["epoch"], one["val_loss"]) for one in again] == [
        (one["event"], one["epoch"], one["val_loss"]) for one in map(json.loads, jsonl.splitlines())
    ]
    epochs = [line.split(",")[0] for line in Path("mlp_t_metrics.csv").read_text().splitlines()]
    assert epochs == [line.split(",")[0] for line in csv.splitlines()] == ["epoch", "1", "2", "3", "4"]
    assert Path("mlp_t_best.safetensors").read_bytes() == best


def test_the_best_of_before_stays_the_best_one() -> None:
    """The rate is such that the second epoch spoils what the first one learned."""
    best = ["--optimizer", "sgd", "--lr", "0.5", "--val-data", "val.list", "--save-best", "val_loss"]
    run_driver("--epochs", "1", *best, "--checkpoint", "cp")
    kept_weights = Path("mlp_t_best.safetensors").read_bytes()
    history = run_driver("--epochs", "2", *best, "--lr", "50", "--restore", "cp")
    assert (
        history["epochs"][1]["val_loss"] is None or history["epochs"][1]["val_loss"] > history["epochs"][0]["val_loss"]
    )
    assert Path("mlp_t_best.safetensors").read_bytes() == kept_weights


@pytest.mark.parametrize("mode", [[], ["--mode", "allreduce"]])
def test_fewer_epochs_than_there_were_are_done(mode: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    run_driver(*EPOCHS, *mode, "--checkpoint", "cp", "--checkpoint-every", "0.000001s", "--keep", "99")
    capsys.readouterr()
    middle = kept()[-2]
    with pytest.raises(SystemExit) as left:
        TrainingDriver.main([*COMMON, *mode, "--epochs", "1", "--seed", "3", "--restore", f"cp/{middle}"])
    assert left.value.code == 0
    assert "all 1 epochs are done: ask for more --epochs" in capsys.readouterr().err


def test_the_checkpoints_of_another_run_stay(capsys: pytest.CaptureFixture[str]) -> None:
    run_driver(*EPOCHS, "--checkpoint", "cp")
    capsys.readouterr()
    line = [one for one in COMMON if one != "--overwrite"]
    with pytest.raises(SystemExit) as left:
        TrainingDriver.main([*line, *EPOCHS, "--trial-name", "u", "--checkpoint", "cp"])
    assert left.value.code == 2
    assert "--checkpoint cp: there are checkpoints: give --restore auto, or --overwrite" in capsys.readouterr().err
    run_driver(*EPOCHS, "--checkpoint", "cp", "--overwrite")
    assert kept() == ["000001"]


def test_the_same_line_goes_on_under_the_same_name() -> None:
    line = [one for one in COMMON if one != "--overwrite"]
    for epochs in ("1", "2"):
        with pytest.raises(SystemExit) as left:
            TrainingDriver.main([*line, "--epochs", epochs, "--checkpoint", "cp", "--restore", "auto"])
        assert left.value.code == 0
    assert len(json.loads(Path("mlp_t_history.json").read_text())["epochs"]) == 2


def test_the_best_one_of_before_is_kept() -> None:
    best = ["--keep-best", "loss,max", "--keep", "1", "--checkpoint", "cp", "--checkpoint-interval", "1"]
    run_driver("--epochs", "2", "--seed", "3", *best)
    assert Path("cp/best").read_text() == "000001\n"
    run_driver(*EPOCHS, *best, "--restore", "auto")
    assert Path("cp/best").read_text() == "000001\n" and kept() == ["000001", "000004"]


def test_after_a_restore_the_next_one_is_made_when_it_is_time() -> None:
    run_driver("--epochs", "3", "--checkpoint", "cp", "--checkpoint-interval", "2", "--keep", "9")
    assert kept() == ["000001", "000002"]
    flags = ["--checkpoint-interval", "2", "--checkpoint-every", "1h", "--keep", "9", "--restore", "auto"]
    run_driver("--epochs", "5", "--checkpoint", "cp", *flags)
    assert kept() == ["000001", "000002", "000003", "000004"], "after the fourth epoch, and at the end"


def test_a_failure_is_told_of_in_the_folder() -> None:
    Path("failing.py").write_text(
        "from nnlo import Callback\nclass Failing(Callback):\n    def on_epoch_end(self, epoch, logs):\n        1 / 0\n"
    )
    with pytest.raises(ZeroDivisionError):
        TrainingDriver.main([*COMMON, *EPOCHS, "--checkpoint", "cp", "--callback", "failing.py:Failing"])
    assert json.loads(Path("cp/status.json").read_text()) == {"state": "failed", "checkpoint": None, "exit_code": 1}
