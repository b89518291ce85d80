"""TrainingDriver's options of how data are read: each is read, and each bad value is one line and exit code 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nnlo.drivers import TrainingDriver
from nnlo.training.reading import ReadingArguments
from tests.unit.test_driver import OK, Driver, folder, history, refused, trained

__all__ = ["folder", "refused"]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATA_CACHE", "DATA_COPY_COMMAND"):
        monkeypatch.delenv(name, raising=False)


def manager(*argv: str) -> Any:
    line = TrainingDriver.command()
    made = TrainingDriver.make_manager(line, line.parse([*OK, *argv]))
    made.close()
    return made


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        (["--train-split", "0"], ["--train-split must be above 0, not 0"]),
        (["--train-split", "1"], ["--train-split must be below 1, not 1"]),
        (["--train-split", "80%"], ["--train-split must be a number"]),
        (["--train-split", "0.999"], ["--train-split 0.999 leaves none of 60 samples to validate on"]),
        (["--train-split", "0.5", "--val-data", "train.list"], ["--train-split", "drop it or --val-data"]),
        (["--preload-data", "-1"], ["--preload-data must be at least 0, not -1"]),
        (["--copy-command", "cp {} {}"], ["--copy-command needs --cache-data"]),
        (["--cache-data", "c", "--copy-command", "cp {}"], ["--copy-command 'cp {}' must have two {}"]),
        (["--cache-data", "file"], ["--cache-data", "/file: cannot write there"]),
    ],
)
def test_each_bad_input_is_one_line(argv: list[str], parts: list[str], refused: Driver) -> None:
    said = refused(*OK, *argv)
    for part in parts:
        assert part in said


def test_a_file_that_cannot_be_copied_is_named(refused: Driver, folder: Path) -> None:
    (folder / "c").mkdir()
    said = refused(*OK, "--train-data", "bad.list", "--cache-data", "c", "--copy-command", "cp {} {}")
    assert said.startswith("gone.h5: `cp gone.h5 ") and "No such file" in said


def test_the_options_are_read() -> None:
    made = manager("--cache-data", "c", "--copy-command", "cp -p {} {}", "--preload-data", "2", "--train-split", ".7")
    data = made.job.data
    assert (data.cached.folder, data.cached.command.template) == (str(Path("c").absolute()), "cp -p {} {}")
    assert (data.preloading, made.job.train_split) == (2, 0.7)
    plain = manager()
    assert (plain.job.data.cached, plain.job.data.preloading, plain.job.train_split) == (None, 0, None)


def test_a_run_from_copies_with_a_split() -> None:
    trained(*OK, "--trial-name", "t", "--train-split", "0.75", "--cache-data", "c", "--preload-data", "1")
    found = history("mlp_t_history.json")
    assert (found["train_samples"], found["val_samples"]) == (45, 15) and "val_acc" in found["epochs"][0]
    assert not list(Path("c").iterdir())
    wanted = {"train_split": 0.75, "cache_data": "c", "preload_data": 1, "copy_command": None}
    assert wanted.items() <= found["arguments"].items() and "check_data" not in found["arguments"]


def test_a_split_goes_before_the_lists_that_a_model_names() -> None:
    Path("own.py").write_text(
        "import torch\ndef get_model():\n    return torch.nn.Linear(8, 4)\n"
        "def get_train():\n    return 'train.list'\ndef get_val():\n    return 'train.list'\n"
    )
    quiet = ["--model", "own.py", "--epochs", "1", "--log-level", "warning"]
    trained(*quiet, "--trial-name", "t")
    trained(*quiet, "--trial-name", "s", "--train-split", "0.5")
    found = [json.loads(Path(f"own_{name}_history.json").read_text()) for name in "ts"]
    assert [(one["train_samples"], one["val_samples"]) for one in found] == [(60, 60), (30, 30)]


def test_clean_data_are_looked_through(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    trained(*OK, "--check-data")
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "--train-data: 60 samples" and out[1].startswith("a.h5: 40 samples; x float (8) ")
    assert len(out) == 3 and sorted(folder.rglob("*")) == before


def test_wrong_data_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        TrainingDriver.main([*OK, "--train-data", "bad.list", "--check-data"])
    out, err = capsys.readouterr()
    assert left.value.code == 2 and out.count("\nWRONG ") == 3
    assert (
        err
        == "TrainingDriver: --check-data: 3 of 4 files or generators are wrong: see the lines that begin with WRONG\n"
    )


def test_options_made_in_python_are_checked_too() -> None:
    with pytest.raises(Exception, match="--train-split must be below 1"):
        ReadingArguments(train_split=2.0)
