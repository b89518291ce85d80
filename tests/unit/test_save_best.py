"""The best weights: which figure counts, when, whose weights are saved, and what is refused."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nnlo import Algo, Callback, MPIManager
from nnlo.callbacks import SaveBest
from nnlo.errors import OptionsError
from nnlo.logs import LOG
from nnlo.training import files
from nnlo.training.files import OutputFiles
from tests.jobs import Built, Rows, labelled, same_bits

MEASURED = ("loss", "acc", "val_loss", "val_acc")


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "draw", lambda history, path: False)


class Weights(Callback):
    """The weights and the figures of every validation, or of every epoch."""

    def __init__(self, hook: str) -> None:
        self.seen: list[tuple[dict[str, Any], dict[str, Tensor]]] = []
        setattr(self, hook, lambda *args: self._note(args[-1]))

    def _note(self, logs: dict[str, Any]) -> None:
        state = self.manager.model.state_dict()
        self.seen.append((dict(logs), {name: value.clone() for name, value in state.items()}))


@pytest.mark.parametrize(
    ("asked", "name", "pick", "hook"),
    [
        ((), "val_loss", min, "on_test_end"),
        (("val_loss", "max"), "val_loss", max, "on_test_end"),
        (("val_accuracy",), "val_acc", max, "on_test_end"),
        (("loss",), "loss", min, "on_epoch_end"),
        (("acc", "min"), "acc", min, "on_epoch_end"),
    ],
)
def test_the_weights_are_those_of_the_best_value(
    asked: Sequence[str], name: str, pick: Any, hook: str, tmp_path: Path
) -> None:
    best, every = SaveBest(*asked), Weights(hook)
    algo = Algo("sgd", lr=5.0, validate_every=3)
    x, _ = labelled(40)
    noise = np.random.default_rng(1).integers(0, 4, 40)  # what cannot be learned gets worse again
    builder = Built(lambda: nn.Linear(8, 4))
    MPIManager(
        None, Rows(x, noise, 5), algo, builder, 6, ["all"], ["0:20"],
        callbacks=[every, best], output=tmp_path, trial_name="t",
    ).train()  # fmt: skip
    values = [logs[name] for logs, _ in every.seen]
    first = values.index(pick(values))
    logs, state = every.seen[first]
    assert 0 < first < len(values) - 1, values
    assert same_bits(torch.load(tmp_path / "Built_t_best.pt", weights_only=True), state)
    assert same_bits(load_file(tmp_path / "Built_t_best.safetensors"), state)
    assert (best.best, best.epoch) == (logs[name], logs["epoch"])


def begun(folder: Path, *asked: str, overwrite: bool = False) -> SaveBest:
    """The callback at the beginning of a training."""
    best = SaveBest(*asked)
    outputs = OutputFiles(folder, "m", "t", overwrite)
    best.manager = SimpleNamespace(restored=False, files=outputs, overwrite=overwrite, model=nn.Linear(1, 1))
    best.check(MEASURED)
    best.on_train_begin({})
    return best


def test_what_is_not_finite_is_never_the_best(tmp_path: Path) -> None:
    best = begun(tmp_path, "val_acc")
    for epoch, value in enumerate((math.nan, math.inf, -math.inf)):
        best.on_test_end({"val_acc": value, "epoch": epoch})
        assert not list(tmp_path.iterdir())
    for epoch, value in enumerate((0.5, math.nan, 0.5, 0.75, math.inf, 0.6)):
        best.on_test_end({"val_acc": value, "epoch": epoch})
    assert (best.best, best.epoch) == (0.75, 3)


def test_files_of_an_earlier_run_go_when_training_begins(tmp_path: Path) -> None:
    (tmp_path / "m_t_best.pt").touch()
    with pytest.raises(OptionsError, match=r"m_t_best.pt already there: give another --trial-name"):
        begun(tmp_path)
    begun(tmp_path, overwrite=True)
    assert not list(tmp_path.iterdir())


def test_the_end_says_what_was_best(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    LOG.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, LOG.name):
            best = begun(tmp_path)
            best.on_train_end({})
            assert not caplog.records
            best.on_test_end({"val_loss": 0.25, "epoch": 1.5})
            best.on_train_end({})
    finally:
        LOG.removeHandler(caplog.handler)
    assert caplog.records[-1].getMessage() == "best val_loss 0.25, in epoch 1.5"


@pytest.mark.parametrize(
    ("asked", "measured", "told"),
    [
        (("val_speed",), MEASURED, "val_speed: not measured: choose one of loss, acc, val_loss, val_acc$"),
        (("val_loss",), ("loss",), "val_loss: not measured: choose one of loss; val_ figures need --val-data$"),
        (("speed",), ("loss", "speed"), "speed: is less of it better, or more\\? give speed,min or speed,max$"),
    ],
)
def test_figures_that_cannot_be_watched(asked: Sequence[str], measured: Sequence[str], told: str) -> None:
    with pytest.raises(OptionsError, match=f"^--save-best {told}"):
        SaveBest(*asked).check(measured)


def test_an_unknown_direction_is_refused_at_once() -> None:
    with pytest.raises(OptionsError, match=r"^--save-best: unknown direction 'up': choose one of min, max$"):
        SaveBest("val_loss", "up")


def test_a_figure_of_ones_own_with_a_direction(tmp_path: Path) -> None:
    best = SaveBest("speed", "max")
    best.manager = SimpleNamespace(
        restored=False, files=OutputFiles(tmp_path, "m", "t"), overwrite=False, model=nn.Linear(1, 1)
    )
    best.check(["loss", "speed"])
    best.on_train_begin({})
    best.on_epoch_end(0, {"speed": 2.0, "epoch": 1})
    assert best.best == 2.0


def test_it_needs_an_output_folder() -> None:
    best = SaveBest()
    best.manager = SimpleNamespace(restored=False, files=None)
    with pytest.raises(OptionsError, match=r"^SaveBest has no place for its files: give the manager an output folder"):
        best.check(MEASURED)
