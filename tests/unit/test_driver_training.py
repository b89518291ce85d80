"""Flags of rates, gradients, precision and stopping: each changes what comes out, and wrong ones are one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnlo.drivers import TrainingDriver
from tests.driving import prepare_folder, refusal, run_driver, write_h5
from tests.jobs import labelled

SGD = ["--optimizer", "sgd", "--lr", "0.5", "--epochs", "4", "--seed", "3"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_folder(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("flags", "rates"),
    [
        ("--schedule step --schedule-params every=1,by=0.5", [0.5, 0.25, 0.125, 0.0625]),
        ("--schedule exponential --schedule-params by=0.25", [0.5 * 0.25 ** (e + 5 / 6) for e in range(4)]),
        ("--schedule_params end=1 --schedule cosine", [0.5] * 4),
        ("--warmup 2", [0.5 * 5 / 12, 0.5 * 11 / 12, 0.5, 0.5]),
    ],
)
def test_schedules(flags: str, rates: list[float]) -> None:
    """Six batches an epoch: the rate in an entry is that of the sixth."""
    history = run_driver(*SGD, *flags.split())
    assert [entry["lr"] for entry in history["epochs"]] == pytest.approx(rates, rel=1e-12)
    assert history["arguments"]["schedule"]["name"] in flags or "warmup" in flags


@pytest.mark.parametrize("flags", ["--clip-norm 0.01", "--clip-value 0.001", "--weight-decay 0.3", "--amp bf16"])
def test_what_becomes_of_gradients(flags: str) -> None:
    plain, changed = run_driver(*SGD), run_driver(*SGD, *flags.split())
    assert plain["epochs"][-1]["loss"] != changed["epochs"][-1]["loss"]
    if "clip" in flags:
        assert changed["epochs"][-1]["loss"] > 1.1 * plain["epochs"][-1]["loss"], "short steps come less far"


def test_the_record_of_these_options() -> None:
    flags = ["--clip-norm", "0.5", "--clip-value", "0.25", "--weight-decay", "0.125", "--amp", "fp16"]
    arguments = run_driver(*SGD, *flags)["arguments"]
    assert arguments["clip_norm"] == 0.5 and arguments["clip_value"] == 0.25 and arguments["amp"] == "float16"
    assert arguments["optimizer"] == {"name": "sgd", "lr": 0.5, "weight_decay": 0.125, "fused": True}


def test_stopping_rules(capsys: pytest.CaptureFixture[str]) -> None:
    history = run_driver(
        *SGD, "--lr", "0", "--epochs", "9", "--val-data", "val.list", "--early-stopping", "val_loss,<,2"
    )
    assert len(history["epochs"]) == 4 and history["outcome"] == "stopped"
    assert "stopped: --early-stopping val_loss,<,2: nothing better than" in capsys.readouterr().out
    history = run_driver(*SGD, "--target-metric", "loss,<,99")
    assert len(history["epochs"]) == 1 and history["stop_reason"].startswith("--target-metric loss,<,99: reached")


def test_validate_every() -> None:
    history = run_driver(*SGD, "--val-data", "val.list", "--validate-every", "2", "--synchronous")
    assert [point["samples"] for point in history["validations"]] == list(range(20, 241, 20))


def test_the_seed_gives_every_rank_a_stream_that_is_recorded() -> None:
    first, second = run_driver(*SGD)["seeds"], run_driver(*SGD, "--seed", "4")["seeds"]
    assert set(first) == {"model", "shuffle", "ranks"} and set(first["ranks"]) == {"0", "1"}
    everything = [*first["ranks"].values(), first["model"], first["shuffle"]]
    everything += [*second["ranks"].values(), second["model"], second["shuffle"]]
    assert len(set(everything)) == 8


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ("--schedule linear", ["--schedule", "'linear'", "constant, cosine, exponential, step"]),
        ("--schedule step --schedule-params gamma=1", ["no parameter 'gamma'", "every, by", "--schedule-params"]),
        ("--schedule exponential --schedule-params by=-1", ["--schedule-params", "by must be above 0"]),
        ("--schedule cosine --schedule-params end=-1", ["--schedule-params", "end must be at least 0"]),
        (
            "--schedule-params by=0.5",
            ["--schedule-params: --schedule constant has no", "name a --schedule that has it: exponential, step"],
        ),
        ("--schedule-params zzz=1", ["it has none; drop it"]),
        ("--warmup -1", ["--warmup", "at least 0"]),
        ("--warmup 11", ["--warmup 11", "--epochs"]),
        ("--clip-norm 0", ["--clip-norm", "above 0"]),
        ("--clip-value -3", ["--clip-value", "above 0"]),
        ("--weight-decay -1", ["--weight-decay", "at least 0"]),
        ("--amp int8", ["--amp", "'int8'", "bf16, fp16"]),
        ("--early-stopping val_loss", ["--early-stopping", "'val_loss,~<,4'"]),
        ("--early-stopping val_loss,<,4", ["--early-stopping", "val_loss: not measured", "--val-data"]),
        ("--target-metric acc,>,much", ["--target-metric", "finite number", "'much'"]),
        ("--target-metric accurac,>,1", ["--target-metric", "accurac: not measured", "loss, acc"]),
        ("--optimizer adam --momentum 0.9", ["'adam' has no setting 'momentum' (--momentum)"]),
    ],
)
def test_wrong_use(flags: str, parts: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys)(*flags.split())
    assert all(part in said for part in parts), said


def test_accuracies_on_the_training_samples() -> None:
    plain = run_driver(*SGD)
    assert "training_set" not in plain["epochs"][-1] and "workers" not in plain
    history = run_driver(*SGD, "--model-accuracy", "--worker-accuracy")
    assert set(history["epochs"][-1]["training_set"]) == {"loss", "acc"}
    assert history["workers"]["1"]["samples"] == 60


def test_names_that_the_model_gives_are_in_the_record(tmp_path: Path) -> None:
    Path("mine.py").write_text(
        "from nnlo.models.mlp import get_model as made\n"
        "def get_model(): return made(inputs=8, hidden=4, classes=4)\n"
        "def get_features(): return 'pictures', lambda x: x * 2\n"
        "def get_labels(): return 'labels'\n"
    )
    x, y = labelled(20)
    write_h5("c.h5", pictures=x, labels=y)
    Path("train.list").write_text("c.h5\n")
    with pytest.raises(SystemExit):
        TrainingDriver.main(["--model", "mine.py", "--train-data", "train.list", "--epochs", "1", "--trial-name", "t"])
    arguments = json.loads(Path("mine_t_history.json").read_text())["arguments"]
    assert (arguments["features_name"], arguments["labels_name"]) == ("pictures", "labels")
