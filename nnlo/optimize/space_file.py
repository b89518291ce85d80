"""A search space written in a YAML or JSON file.

    kernel_size: {type: integer, low: 2, high: 7}
    lr: {low: 1e-4, high: 0.1, log: true}         # real, as its ends are no whole numbers
    optimizer: [sgd, adam]                        # short for {type: categorical, choices: [sgd, adam]}

Whatever the two formats would take in silence and drop, such as a name that comes twice, is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from nnlo.errors import OptionsError
from nnlo.optimize.dimensions import Categorical, Dimension, Integer, Real
from nnlo.optimize.space import Space

KINDS: dict[str, type[Dimension]] = {kind.kind: kind for kind in (Real, Integer, Categorical)}


def space_of_file(path: Path) -> Space:
    """The space that the file describes. Raises OptionsError, which names the file."""
    try:
        return space_of(contents(path))
    except OptionsError as error:
        raise OptionsError(f"--search-space {path}: {error}") from None


def space_of(described: Mapping[str, Any]) -> Space:
    """The space of {name: what a file would say of it}. Raises OptionsError."""
    return Space([dimension_of(name, given) for name, given in described.items()])


def dimension_of(name: str, given: Any) -> Dimension:
    """A dimension from what the file says after its name: settings, or a list of choices."""
    if isinstance(given, list):
        return Categorical(name, tuple(given))
    if not isinstance(given, Mapping):
        raise OptionsError(f"{name}: expected {{low: ..., high: ...}} or a list of choices, not {given!r}")
    settings = {str(key): value for key, value in given.items() if key != "type"}
    kind = kind_of(name, given)
    known = {one.name: one.default is MISSING for one in fields(kind) if one.name != "name"}
    if unknown := [key for key in settings if key not in known]:
        raise OptionsError(f"{name}: unknown key '{unknown[0]}': type {kind.kind} has {', '.join(known)}")
    if missing := [key for key, needed in known.items() if needed and key not in settings]:
        raise OptionsError(f"{name}: '{missing[0]}' is missing: type {kind.kind} needs it")
    return kind(name, **settings)


def kind_of(name: str, given: Mapping[Any, Any]) -> type[Dimension]:
    """By its type; else by what it has, where that leaves no doubt."""
    if "type" in given:
        if str(given["type"]) in KINDS:
            return KINDS[str(given["type"])]
        raise OptionsError(f"{name}: unknown type {given['type']!r}: choose one of {', '.join(KINDS)}")
    if "choices" in given:
        return Categorical
    if isinstance(given.get("low"), int) and isinstance(given.get("high"), int):
        raise OptionsError(f"{name}: say whether it is a whole number: add 'type: integer' or 'type: real'")
    return Real


def contents(path: Path) -> dict[str, Any]:
    """{name: what the file says of it}."""
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text, object_pairs_hook=unique) if path.suffix == ".json" else yaml.load(text, Loader)
    except OSError as error:
        raise OptionsError(f"{error.strerror}: give a YAML or JSON file of parameters and their ranges") from None
    except (ValueError, yaml.YAMLError) as error:
        raise OptionsError(f"not YAML or JSON: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise OptionsError("expected lines of the form 'parameter: {low: ..., high: ...}' or 'parameter: [...]'")
    return found


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which no name comes twice."""
    check_unique([name for name, _ in pairs])
    return dict(pairs)


def check_unique(names: list[Any]) -> None:
    """The parsers would let the last one win."""
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise OptionsError(f"{twice[0]} is there twice: drop or rename one")


class Loader(yaml.SafeLoader):
    """YAML in which no name comes twice, and 1e-4 is a number, as in JSON."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        check_unique([key.value for key, _ in node.value])
        return super().construct_mapping(node, deep)


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
