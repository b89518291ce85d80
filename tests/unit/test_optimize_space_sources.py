"""Search spaces from files and from a model's skopt dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skopt import space as skopt

from nnlo.errors import OptionsError
from nnlo.model.source import load_model
from nnlo.optimize.dimensions import Categorical, Dimension, Integer, Real
from nnlo.optimize.space_file import space_of_file
from nnlo.optimize.space_skopt import space_of_skopt

YAML = """
kernel_size: {type: integer, low: 2, high: 7}
lr: {low: 1e-4, high: 1.0e-1, log: true}
dense: {type: integer, low: 1e1, high: 1000, log: true}
elastic-force: {type: real, low: 0, high: 1}
optimizer: [sgd, adam]
momentum: [0, 1e-1, .5e0, "1e-1", null, true]
activation:
  type: categorical
  choices: [relu]
"""
WANTED: tuple[Dimension, ...] = (
    Integer("kernel_size", 2, 7),
    Real("lr", 1e-4, 1e-1, True),
    Integer("dense", 10, 1000, True),
    Real("elastic_force", 0.0, 1.0),
    Categorical("optimizer", ("sgd", "adam")),
    Categorical("momentum", (0, 0.1, 0.5, "1e-1", None, True)),
    Categorical("activation", ("relu",)),
)


def written(folder: Path, text: str, name: str = "space.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def types(dimension: Any) -> list[type]:
    return [type(value) for value in getattr(dimension, "choices", ()) or (dimension.low, dimension.high)]


def test_a_yaml_file(tmp_path: Path) -> None:
    found = space_of_file(written(tmp_path, YAML)).dimensions
    assert found == WANTED
    assert [types(one) for one in found] == [types(one) for one in WANTED]


def test_a_json_file(tmp_path: Path) -> None:
    text = '{\n\t"lr": {"low": 1e-4, "high": 1E-1, "log": true},\n\t"optimizer": ["sgd", null]}'
    found = space_of_file(written(tmp_path, text, "space.json")).dimensions
    assert found == (Real("lr", 1e-4, 1e-1, True), Categorical("optimizer", ("sgd", None)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr: {low: 1, high: 0.1}", "lr: low must be below high"),
        ("lr: {low: 0.0, high: 0.1, log: true}", "lr: log needs a low above 0"),
        ("lr: {low: 0.1}", "lr: 'high' is missing: type real needs it"),
        ("lr: {low: 0.1, high: 1, prior: log}", "lr: unknown key 'prior': type real has low, high, log"),
        ("lr: {type: float, low: 0.1, high: 1}", "lr: unknown type 'float': choose one of real, integer, categorical"),
        ("lr: {type: [real], low: 0.1, high: 1}", "lr: unknown type ['real']"),
        ("lr: {low: small, high: 1}", "lr: low must be a finite number, not 'small'"),
        ("k: {low: 2, high: 7}", "k: say whether it is a whole number: add 'type: integer' or 'type: real'"),
        ("k: {type: integer, low: 2.5, high: 7}", "k: low must be a whole number, not 2.5"),
        ("k: {type: categorical}", "k: 'choices' is missing"),
        ("k: {choices: [1, 2], low: 1}", "k: unknown key 'low': type categorical has choices"),
        ("k: []", "k: choices must be a list of at least one"),
        ("k: [1, 2, 1]", "k: the choices 1 and 1 are the same: drop one"),
        ("k: [2020-01-01]", "k: a choice must be a finite number, a text"),
        ("k: 3", "k: expected {low: ..., high: ...} or a list of choices, not 3"),
        ("yes: [1, 2]", "True is no name of a parameter"),
        ("k: [1]\nk: [2]", "k is there twice"),
        ("k: {low: 1, low: 2, high: 3}", "low is there twice"),
        ("a-b: [1]\na_b: [2]", "a_b is there twice"),
        ("- lr", "expected lines of the form 'parameter: {low: ..., high: ...}'"),
        ("", "expected lines of the form"),
        ("{}", "nothing to search"),
        ("k: [1", "not YAML or JSON: "),
    ],
)
def test_refused_files_are_named_on_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(OptionsError) as refused:
        space_of_file(path)
    assert str(refused.value).startswith(f"--search-space {path}: ") and said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"k": [1], "k": [2]}', "k is there twice"),
        ('{"k": {"low": 1.5, "high": 2, "low": 3}}', "low is there twice"),
        ('{"k": [NaN]}', "k: a choice must be a finite number"),
        ('{"k": [1,]}', "not YAML or JSON: "),
    ],
)
def test_refused_json(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(OptionsError, match=said):
        space_of_file(written(tmp_path, text, "space.json"))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"none\.yaml: No such file or directory: give a YAML or JSON file"):
        space_of_file(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionsError, match=r"bytes\.yaml: not YAML or JSON"):
        space_of_file(tmp_path / "bytes.yaml")


def test_dimensions_of_skopt() -> None:
    given = [
        skopt.Integer(2, 7, name="kernel_size"),
        skopt.Real(1e-4, 1e-1, prior="log-uniform", base=2, name="lr"),
        skopt.Integer(np.int64(10), np.int64(1000), "log-uniform", name="dense"),
        skopt.Real(0, 1, name="elastic-force"),
        skopt.Categorical(np.array(["sgd", "adam"]), name="optimizer"),
        skopt.Categorical([0, 0.1, 0.5, "1e-1", None, True], name="momentum"),
        skopt.Categorical(["relu"], name="activation"),
    ]
    found = space_of_skopt(given, "model 'm'").dimensions
    assert found == WANTED
    assert [types(one) for one in found] == [types(one) for one in WANTED]


@pytest.mark.parametrize("name", ["mnist", "mlp", "cifar10", "topclass"])
def test_ready_made_models_have_a_space(name: str) -> None:
    theirs = load_model(name).parameter_range
    assert space_of_skopt(theirs, name).names == tuple(one.name for one in theirs)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "nothing to search"),
        (["dimension"], "'dimension' is no dimension: write skopt.space.Real(low, high, name='...')"),
        ([(1, 5)], "(1, 5) is no dimension"),
        ([skopt.Real(0, 1)], "Real(low=0, high=1, prior='uniform', transform='identity') has no name: add name="),
        ([skopt.Integer(0, 3, name="k"), skopt.Real(0, 1, name="k")], "k is there twice"),
        ([skopt.Categorical([1, 2], prior=[0.1, 0.9], name="k")], "k: all choices are equally likely here: drop prior"),
        ([skopt.Categorical([(3, 3)], name="k")], "k: a choice must be a finite number, a text"),
    ],
)
def test_refused_dimensions_name_the_model(given: list[Any], said: str) -> None:
    with pytest.raises(OptionsError) as refused:
        space_of_skopt(given, "model 'm'")
    assert str(refused.value).startswith("model 'm': get_model.parameter_range: ") and said in str(refused.value)
