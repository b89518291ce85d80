"""Options declared once: a frozen dataclass gives the flags, the YAML form, the checks and the record.

    @dataclass(frozen=True, kw_only=True)
    class Speed(Options):
        '''How fast'''
        batch: int = option(100, help="samples in one batch", at_least=1)

`Speed(batch=0)` raises an `OptionsError` that names `--batch`; `nnlo.cli` makes flags out of it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import operator
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from nnlo.errors import OptionsError


class Names(Protocol):
    """Names to choose from, for example a `Registry`."""

    def __contains__(self, name: object, /) -> bool: ...
    def __iter__(self) -> Iterator[str]: ...


Choices = Callable[[], Names]


def option(
    default: Any,
    *,
    help: str,
    metavar: str | None = None,
    choices: Choices | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    positional: bool = False,
    flag: bool = True,
) -> Any:
    """Declare one field of an `Options` class: its default, its sentence of help and its limits.

    `choices` is a function, so that a plug-in registered later is still offered; what it returns may
    know more names than it lists. A `positional` option is given by its place, without a flag; one that is a
    tuple takes as many words as there are. One with `flag=False` is none of the user's: no flag, nor in the record.
    """
    metadata = {
        "help": help,
        "metavar": metavar,
        "choices": choices,
        "at_least": at_least,
        "at_most": at_most,
        "above": above,
        "below": below,
        "positional": positional,
        "flag": flag,
    }
    if isinstance(default, (dict, list)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def flag_of(name: str) -> str:
    return "--" + name.replace("_", "-")


def fields_of(section: type[Options]) -> list[dataclasses.Field[Any]]:
    """What the user may say of that class, on the command line or in a file."""
    return [field for field in dataclasses.fields(section) if field.metadata["flag"]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Base of all option classes: checks its fields as soon as it is made."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked(field, hints[field.name], getattr(self, field.name)))
        self.check()

    def check(self) -> None:
        """Checks across fields; subclasses override it and raise `OptionsError`."""

    @classmethod
    def from_keywords(cls, **keywords: Any) -> Self:
        """From what a program says, by the names of flags; a class whose keywords mean something else overrides it."""
        return cls(**keywords)

    def recorded(self) -> dict[str, Any]:
        """The options as plain values, the way that the history keeps them."""
        return {f.name: plain(getattr(self, f.name)) for f in fields_of(type(self))}


def plain(value: Any) -> Any:
    """`value` in terms that JSON knows."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def checked(field: dataclasses.Field[Any], hint: Any, value: Any) -> Any:
    """`value` as the field wants it, within its limits. Raises OptionsError."""
    value = checked_type(field.name, value, hint)
    check_limits(field, value)
    return checked_choice(field, value)


def checked_type(name: str, value: Any, hint: Any) -> Any:
    """`value` as its hint wants it; numbers and paths are converted where nothing is lost."""
    kind, optional = plain_type(hint)
    if value is None and optional:
        return None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is tuple and isinstance(value, (list, str)):
        value = tuple(split_words(value) if isinstance(value, str) else value)
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)) and has_names(value):
        return value
    raise OptionsError(f"{flag_of(name)} must be {wanted(kind)}, not {value!r}")


def plain_type(hint: Any) -> tuple[type, bool]:
    """The class behind a hint, and whether None is allowed: `int | None` gives `(int, True)`."""
    optional = typing.get_origin(hint) in (typing.Union, types.UnionType)
    if optional:
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
    return typing.get_origin(hint) or hint, optional


def has_names(value: Any) -> bool:
    """Whether the items of a tuple or the keys of a dictionary are texts."""
    return not isinstance(value, (tuple, dict)) or all(isinstance(name, str) for name in value)


WANTED = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    Path: "a path",
    tuple: "a list of names",
    dict: "settings by name",
}


def wanted(kind: type) -> str:
    return WANTED.get(kind, f"a {kind.__name__}")


LIMITS = {"at_least": operator.ge, "at_most": operator.le, "above": operator.gt, "below": operator.lt}


def check_limits(field: dataclasses.Field[Any], value: Any) -> None:
    flag, limits = flag_of(field.name), field.metadata
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise OptionsError(f"{flag} must be a finite number, not {value}")
    for limit, fits in LIMITS.items():
        if (bound := limits.get(limit)) is not None and not fits(value, bound):
            raise OptionsError(f"{flag} must be {limit.replace('_', ' ')} {bound:g}, not {value}")


def checked_choice(field: dataclasses.Field[Any], value: Any) -> Any:
    """`value`, or its lower case where that alone is one of the choices."""
    choices = field.metadata.get("choices")
    if choices is None or value is None or value in (known := choices()):
        return value
    if value.lower() in known:
        return value.lower()
    raise OptionsError(f"{flag_of(field.name)}: unknown value {value!r}: choose one of {', '.join(known)}")


def split_words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def parse_params(text: str) -> dict[str, Any]:
    """`"momentum=0.9,nesterov=true"` or a JSON object, as a dictionary."""
    if text.lstrip().startswith("{"):
        try:
            return dict(json.loads(text))
        except ValueError as error:
            raise OptionsError(f"not a JSON object: {text!r} ({error})") from None
    pairs = [word.partition("=") for word in split_words(text)]
    if any(not key.strip() or not sign for key, sign, _ in pairs):
        raise OptionsError(f"expected key=value,key=value or a JSON object, not {text!r}")
    return {key.strip().replace("-", "_"): literal(value.strip()) for key, _, value in pairs}


#: A number that begins or ends with its point: not JSON, but what people write.
BARE_POINT = re.compile(r"[+-]?(\d+\.|\.\d+)([eE][+-]?\d+)?")


def literal(text: str) -> Any:
    """A number, true, false or null where `text` reads as one (also True, False and None), else the text itself."""
    words = {"True": True, "False": False, "None": None}
    try:
        return words[text] if text in words else json.loads(text)
    except ValueError:
        return float(text) if BARE_POINT.fullmatch(text) else text


def parse_value(name: str, text: str, hint: Any) -> Any:
    """The value that `text` on the command line or in a file stands for."""
    kind, optional = plain_type(hint)
    try:
        if optional and kind is not str and text.lower() in ("none", "null"):
            return None
        if kind is dict:
            return parse_params(text)
        if kind is tuple:
            return tuple(split_words(text))
        return kind(text) if kind in (int, float, Path) else text
    except ValueError:
        raise OptionsError(f"{flag_of(name)} must be {wanted(kind)}, not {text!r}") from None
    except OptionsError as error:
        raise OptionsError(f"{flag_of(name)}: {error}") from None
