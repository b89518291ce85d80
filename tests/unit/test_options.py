"""Options: what a field takes, what it refuses, and that the message names the flag."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nnlo.errors import OptionsError
from nnlo.options import Options, literal, option, parse_params, parse_value
from nnlo.registry import Registry

COLOURS: Registry[int] = Registry("colour")
COLOURS.register("red", 1, aliases=("rot",))
COLOURS.register("blue", 2)


@dataclass(frozen=True, kw_only=True)
class Sample(Options):
    """Sample"""

    batch: int = option(100, help="samples", at_least=1, at_most=200)
    learn_rate: float | None = option(None, help="rate", above=0, below=2)
    colour: str = option("red", help="colour", choices=lambda: COLOURS)
    folder: Path = option(Path("."), help="folder")
    names: tuple[str, ...] = option((), help="names")
    params: dict[str, Any] = option({}, help="params")
    loud: bool = option(False, help="loud")

    def check(self) -> None:
        if self.loud and not self.names:
            raise OptionsError("--loud needs --names")


def test_defaults_are_themselves_checked_and_not_shared() -> None:
    one, other = Sample(), Sample()
    one.params["a"] = 1
    assert other.params == {} and one.batch == 100 and one.learn_rate is None


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"batch": 1}, 1),
        ({"batch": 200}, 200),
        ({"learn_rate": 1}, 1.0),
        ({"folder": "a/b"}, Path("a/b")),
        ({"names": "a, b,"}, ("a", "b")),
        ({"names": ["a", "b"]}, ("a", "b")),
        ({"colour": "BLUE"}, "blue"),
        ({"colour": "rot"}, "rot"),
        ({"learn_rate": None}, None),
    ],
)
def test_values_are_kept_as_their_type(given: dict[str, Any], kept: object) -> None:
    found = getattr(Sample(**given), next(iter(given)))
    assert found == kept and type(found) is type(kept)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch": 0}, "--batch must be at least 1, not 0"),
        ({"batch": 201}, "--batch must be at most 200, not 201"),
        ({"batch": 2.0}, "--batch must be a whole number, not 2.0"),
        ({"batch": True}, "--batch must be a whole number, not True"),
        ({"batch": None}, "--batch must be a whole number, not None"),
        ({"learn_rate": 0}, "--learn-rate must be above 0, not 0.0"),
        ({"learn_rate": 2}, "--learn-rate must be below 2, not 2.0"),
        ({"learn_rate": math.nan}, "--learn-rate must be a finite number, not nan"),
        ({"learn_rate": "much"}, "--learn-rate must be a number, not 'much'"),
        ({"colour": "green"}, "--colour: unknown value 'green': choose one of blue, red"),
        ({"colour": 3}, "--colour must be a text, not 3"),
        ({"folder": 3}, "--folder must be a path, not 3"),
        ({"names": [1]}, "--names must be a list of names, not (1,)"),
        ({"params": {1: 2}}, "--params must be settings by name, not {1: 2}"),
        ({"loud": "yes"}, "--loud must be true or false, not 'yes'"),
        ({"loud": True}, "--loud needs --names"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError) as caught:
        Sample(**given)
    assert str(caught.value) == message


def test_record_is_plain() -> None:
    record = Sample(folder="x", names=("a",), params={"k": (1, None)}).recorded()
    assert record["folder"] == "x" and record["names"] == ["a"] and record["params"] == {"k": [1, None]}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("a=1,b=x", {"a": 1, "b": "x"}),
        ("weight-decay = 0.1 , nesterov=True", {"weight_decay": 0.1, "nesterov": True}),
        ('{"betas": [0.9, 0.99]}', {"betas": [0.9, 0.99]}),
    ],
)
def test_params(text: str, found: dict[str, Any]) -> None:
    assert parse_params(text) == found


@pytest.mark.parametrize("text", ["a", "=3", "betas=[0.9,0.99]", '{"a": ', "a=1,b"])
def test_params_that_make_no_sense(text: str) -> None:
    with pytest.raises(OptionsError, match="JSON"):
        parse_params(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1e-3", 1e-3),
        (".5", 0.5),
        ("-5.", -5.0),
        (".", "."),
        ("true", True),
        ("False", False),
        ("None", None),
        ("null", None),
    ],
)
def test_literals(text: str, value: object) -> None:
    found = literal(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("3", int, 3),
        ("3", float, 3.0),
        ("none", int | None, None),
        ("none", str | None, "none"),
        ("a,b", tuple[str, ...], ("a", "b")),
        ("a=1", dict[str, Any], {"a": 1}),
        ("x", Path | None, Path("x")),
    ],
)
def test_texts_are_parsed_by_their_hint(text: str, hint: Any, value: object) -> None:
    assert parse_value("name", text, hint) == value


@pytest.mark.parametrize(("text", "hint"), [("3.5", int), ("x", float), ("a", dict[str, Any])])
def test_a_text_that_does_not_parse_names_the_flag(text: str, hint: Any) -> None:
    with pytest.raises(OptionsError, match=r"^--some-name"):
        parse_value("some_name", text, hint)
