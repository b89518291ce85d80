"""Modes bring rates that suit them, from a program and on the command line."""

from __future__ import annotations

import pytest

from nnlo.algos import MODES
from nnlo.drivers.TrainingDriver import mode_defaults
from nnlo.training.algo import Algo


@pytest.mark.parametrize(("mode", "rate"), [("sign", 1e-3), ("vote", 5e-4)])
def test_the_rate_of_votes(mode: str, rate: float) -> None:
    assert Algo("sgd", mode=mode).optimizer == Algo("sgd", mode=mode, lr=rate).optimizer
    never = {"clip_norm": None, "clip_value": None}
    assert mode_defaults(mode, {}) == {"optimizer": "sgd", "lr": rate, **never}
    assert mode_defaults(mode, {"optimizer": "adam"}) == never


@pytest.mark.parametrize("mode", ["easgd", "local"])
def test_the_rate_of_workers_of_their_own(mode: str) -> None:
    assert Algo(None, mode=mode).algorithm.rate == 0.1
    assert MODES[mode].options().worker_settings == {"lr": 0.1}  # type: ignore[attr-defined]
