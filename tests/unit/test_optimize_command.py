"""The command that trains a trial again, read back by the driver that it is for."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlo.drivers.TrainingDriver import command
from nnlo.optimize.command import command_of

LINE = command()
TEXTS = [
    "",
    " ",
    "1",
    "1.0",
    "true",
    "None",
    "null",
    "NaN",
    ".5",
    "a b",
    "a,b",
    "a=b",
    "{",
    "[1]",
    "-x",
    "--lr",
    "'\"$`\\",
    "é",
]
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(TEXTS)
    | st.text()
)
NAMES = st.from_regex(r"[a-z][a-z_0-9]{0,8}", fullmatch=True)


def parsed(text: str) -> dict[str, Any]:
    program, *words = shlex.split(text)
    assert program == "TrainingDriver"
    return LINE.parse(words)


def back(parameters: Mapping[str, Any], arguments: Mapping[str, Any], names: Any = ()) -> dict[str, Any]:
    """What the driver makes of the command of a trial."""
    return parsed(command_of(parameters, arguments, names))


def test_a_command_as_one_would_write_it() -> None:
    parameters = {"layers": 2, "dropout": 0.5, "act": "relu", "lr": 1e-05, "nesterov": True, "batch": 32}
    arguments = {"model": "mnist", "epochs": 3, "metrics": ("acc", "top5"), "lr": 0.1, "report": True, "fused": False}
    text = command_of(parameters, arguments, ["layers", "dropout", "act", "nesterov"])
    assert text == (
        "TrainingDriver --model mnist --epochs 3 --metrics acc,top5 --lr 1e-05 --report --no-fused --batch 32 "
        "--model-params layers=2,dropout=0.5,act=relu,nesterov=true"
    )


@given(params=st.dictionaries(NAMES, VALUES, min_size=1))
def test_any_parameter_of_a_model_comes_back_as_the_same_value(params: dict[str, Any]) -> None:
    assert repr(back(params, {}, params)["model_params"]) == repr(params)


@given(params=st.dictionaries(NAMES, VALUES, min_size=1))
def test_given_settings_of_any_kind_come_back_too(params: dict[str, Any]) -> None:
    for name in ("model_params", "optimizer_params", "schedule_params"):
        assert repr(back({}, {name: params})[name]) == repr(params)


@given(lr=st.floats(0, 1e300), batch=st.integers(1, 2**40), seed=st.integers(0), report=st.booleans())
def test_numbers_and_switches_come_back_exactly(lr: float, batch: int, seed: int, report: bool) -> None:
    wanted = {"lr": lr, "batch": batch, "seed": seed, "report": report, "save_model": not report}
    assert repr(back({"lr": lr, "batch": batch}, {name: wanted[name] for name in wanted})) == repr(wanted)


@given(text=st.text().filter(lambda text: "\0" not in text) | st.sampled_from(TEXTS))
def test_texts_and_paths_come_back_however_they_are_written(text: str) -> None:
    found = back({"early_stopping": text}, {"trial_name": text, "output": Path(text or "x")})
    assert found == {"early_stopping": text, "trial_name": text, "output": Path(text or "x")}


def test_a_trial_wins_over_what_was_given_and_its_model_adds_to_it() -> None:
    found = back({"lr": 0.5, "width": 8}, {"lr": 0.1, "model_params": {"depth": 3, "width": 4}}, {"width"})
    assert found == {"lr": 0.5, "model_params": {"depth": 3, "width": 8}}
    assert back({"width": 8}, {"model_params": "depth=3,width=4"}, {"width"})["model_params"] == {
        "depth": 3,
        "width": 8,
    }
    assert back({"lr": 0.5}, {"model_params": "depth=3"}) == {"lr": 0.5, "model_params": {"depth": 3}}


def test_a_parameter_is_the_models_where_the_model_has_it() -> None:
    assert back({"lr": 0.5}, {}, {"lr"}) == {"model_params": {"lr": 0.5}}


def test_names_may_have_dashes_and_values_be_as_they_were_typed() -> None:
    found = back({}, {"train-data": "a b.list", "early-stopping": "val_loss,<,4", "metrics": "acc,top5", "lr": "1e-3"})
    rule = {"train_data": Path("a b.list"), "early_stopping": "val_loss,<,4"}
    assert found == {**rule, "metrics": ("acc", "top5"), "lr": 0.001}


def test_dashes_and_underscores_are_the_same() -> None:
    text = command_of({"width": 8, "weight_decay": 0.5}, {"model-params": "depth=3", "weight-decay": 0.1}, {"width"})
    assert text == "TrainingDriver --model-params depth=3,width=8 --weight-decay 0.5"


@pytest.mark.parametrize("name", ["lr", "clip_norm", "shuffle_buffer", "max_staleness", "val_data"])
def test_none_is_said_where_it_can_be(name: str) -> None:
    """It is not the same as nothing, which a model may have a default for."""
    assert back({name: None}, {}) == {name: None}
    assert command_of({name: None}, {}, ()).endswith(" none")


@pytest.mark.parametrize("name", ["early_stopping", "amp", "trial_name"])
def test_a_text_that_is_none_is_left_out(name: str) -> None:
    assert back({name: None}, {"epochs": 2}) == {"epochs": 2}
