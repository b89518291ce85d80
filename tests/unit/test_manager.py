"""What a manager offers after a training, and before one."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from nnlo import Algo, Callback, MPIManager
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import DataError, OptionsError, TrainingError
from nnlo.training.files import OutputFiles
from tests.jobs import Built, Rows, labelled


def manager(val_list: list[str] | None, output: Path | None = None, **options: Any) -> MPIManager:
    data, builder = options.pop("data", Rows(*labelled(40), 8)), Built(lambda: nn.Linear(8, 4))
    epochs, comm = options.pop("epochs", 2), options.pop("comm", None)
    return MPIManager(comm, data, Algo("sgd"), builder, epochs, ["all"], val_list, output=output, **options)


def test_the_figure_of_merit_is_the_last_validation_loss_or_else_the_training_loss() -> None:
    for val_list, name in ((["all"], "val_loss"), (None, "loss")):
        made = manager(val_list)
        assert made.figure_of_merit() is None
        history = made.train()
        assert history is not None
        assert made.figure_of_merit() == history["epochs"][-1][name]


def test_details_are_the_history(tmp_path: Path) -> None:
    made = manager(["all"])
    made.record_details(tmp_path / "details.json")
    assert not (tmp_path / "details.json").exists()
    history = made.train()
    made.record_details(tmp_path / "details.json")
    assert history is not None
    assert json.loads((tmp_path / "details.json").read_text())["epochs"] == history["epochs"]


def endings(folder: Path) -> set[str]:
    return {path.name.removeprefix("Built_t_") for path in folder.iterdir()} - {"curves.png"}


def test_weights_and_report_are_written_as_asked_for(tmp_path: Path) -> None:
    manager(None, tmp_path / "a", trial_name="t", save_model=False, report=True).train()
    assert endings(tmp_path / "a") == {"history.json", "report.html"}
    manager(None, tmp_path / "b", trial_name="t").train()
    assert endings(tmp_path / "b") == {"history.json", "weights.pt", "weights.safetensors"}


def test_a_run_that_fails_leaves_its_report_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    x, y = labelled(40)
    with pytest.raises(TrainingError) as caught:
        manager(None, tmp_path, data=Rows(x * np.nan, y, 2), trial_name="t", report=True).train()
    assert endings(tmp_path) == {"history.json", "report.html"}
    assert str(caught.value)[:20] in report_of(tmp_path)
    assert told(tmp_path)["outcome"] == f"failed: {caught.value}"
    assert wrote(caplog) == [tmp_path / "Built_t_history.json", tmp_path / "Built_t_report.html"]


def test_a_report_needs_a_folder() -> None:
    with pytest.raises(OptionsError, match=r"--report needs a folder.*--output"):
        manager(None, report=True)


class Stops(Callback):
    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        self.manager.stop("enough")


def test_a_second_training_does_not_stop_for_what_stopped_the_first() -> None:
    made = manager(["all"], epochs=4, callbacks=[Stops()])
    first = made.train()
    made.callbacks.clear()
    second = made.train()
    assert first is not None and second is not None
    assert (first["outcome"], first["stop_reason"]) == ("stopped", "enough")
    assert (second["outcome"], second["stop_reason"], made.stop_training) == ("done", None, False)


def test_a_hook_that_fails_after_the_training_costs_no_file(tmp_path: Path) -> None:
    class Fails(Callback):
        def on_train_end(self, logs: dict[str, Any]) -> None:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        manager(None, tmp_path, trial_name="t", callbacks=[Fails()]).train()
    assert endings(tmp_path) == {"history.json", "weights.pt", "weights.safetensors"}
    assert told(tmp_path)["outcome"] == "failed: ValueError: no"


def told(folder: Path) -> dict[str, Any]:
    history: dict[str, Any] = json.loads((folder / "Built_t_history.json").read_text())
    return history


class FailsAt(Callback):
    """Raises in the hook of the second epoch."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        if epoch == 1:
            raise self.error


@pytest.mark.parametrize("error", [ValueError("no\nmore"), KeyboardInterrupt("no")])
@pytest.mark.parametrize("comm", [None, VirtualWorld(3)])
def test_a_hook_that_fails_leaves_the_history_so_far(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, comm: Any, error: BaseException
) -> None:
    with pytest.raises(type(error), match="no"):
        manager(None, tmp_path, trial_name="t", epochs=3, callbacks=[FailsAt(error)], report=True, comm=comm).train()
    assert endings(tmp_path) == {"history.json", "report.html"}
    history, outcome = told(tmp_path), f"failed: {type(error).__name__}: no"
    assert (history["outcome"], history["stop_reason"], len(history["epochs"])) == (outcome, None, 2)
    assert history["seconds"] >= history["epochs"][1]["seconds"] and outcome in report_of(tmp_path)
    assert wrote(caplog) == [tmp_path / "Built_t_history.json", tmp_path / "Built_t_report.html"]


def report_of(folder: Path) -> str:
    return (folder / "Built_t_report.html").read_text()


def wrote(caplog: pytest.LogCaptureFixture) -> list[Path]:
    """What the one error line in the log says that it wrote."""
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    return [Path(path) for path in line.removeprefix("the training failed: wrote ").split(", ")]


def test_what_ends_the_master_from_outside_is_told_too(tmp_path: Path) -> None:
    """An error of another rank of this process."""

    class Breaks(Rows):
        def read_rows(self, file: str, start: int, stop: int) -> Any:
            if ended:
                raise LookupError("gone")
            return super().read_rows(file, start, stop)

    class Ends(Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            ended.append(epoch)

    ended: list[int] = []
    with pytest.raises(LookupError):
        data = Breaks(*labelled(40), 8)
        manager(None, tmp_path, data=data, trial_name="t", epochs=9, callbacks=[Ends()], shuffle_buffer=8).train()
    assert told(tmp_path)["outcome"] == "failed: LookupError: gone" and told(tmp_path)["epochs"]


def test_an_account_that_cannot_be_written_does_not_hide_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: OutputFiles, history: Any) -> None:
        raise DataError("no room")

    monkeypatch.setattr(OutputFiles, "write_history", full)
    with pytest.raises(ValueError, match="first"):
        manager(None, tmp_path, trial_name="t", callbacks=[FailsAt(ValueError("first"))]).train()
    with pytest.raises(TrainingError, match="in a row"):
        x, y = labelled(40)
        manager(None, tmp_path, data=Rows(x * np.nan, y, 2), trial_name="t").train()
    assert caplog.text.count("the history of the training that failed is lost: no room") == 2


def test_a_second_training_lists_its_files_once(tmp_path: Path) -> None:
    made = manager(None, tmp_path, trial_name="t", overwrite=True)
    made.train()
    before = made.files and made.files.left
    made.train()
    assert made.files and made.files.left == before


def test_the_weights_are_there_before_the_workers_are_measured(tmp_path: Path) -> None:
    """A worker that fails then ends the job at once."""

    class Breaks(Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
            gone.append(epoch)

    class Going(Rows):
        def load_data(self, file: str) -> Any:
            if len(gone) == 2:
                raise ValueError("gone")
            return super().load_data(file)

    gone: list[int] = []
    with pytest.raises(ValueError, match="gone"):
        data = Going(*labelled(40), 8)
        manager(None, tmp_path, data=data, trial_name="t", callbacks=[Breaks()], worker_accuracy=True).train()
    assert {"weights.pt", "weights.safetensors"} <= endings(tmp_path)


def test_one_file_that_cannot_be_written_costs_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(history: object, path: Path) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nnlo.training.files.draw", full)
    with pytest.raises(DataError, match=r"m_curves\.png|No space left"):
        manager(None, tmp_path, trial_name="m", report=True, timeline=True, export=["torch-export"]).train()
    names = {path.name.removeprefix("Built_m_") for path in tmp_path.iterdir()}
    assert names >= {"history.json", "weights.pt", "report.html", "timeline.json", "model.pt2"}
    assert "curves.png" not in names
