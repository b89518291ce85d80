"""Command lines out of `Options` classes, and how a command ends.

Flags and YAML keys may be written with `-` or `_`; a prefix that fits one flag alone is enough.
A flag wins over the file named by `--config`, and both win over the defaults.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml

from nnlo.errors import NnloError, OptionsError
from nnlo.launcher import launched_rank
from nnlo.logs import note_error
from nnlo.options import Options, checked, fields_of, flag_of, parse_value, plain_type

T = TypeVar("T", bound=Options)

EPILOG = "Names may be written with - or _ and shortened while they fit one option alone; --no-NAME turns a switch off."


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are one line, and whose help is printed by rank 0 alone."""

    def error(self, message: str) -> NoReturn:
        raise OptionsError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")

    def _print_message(self, message: str, file: Any = None) -> None:
        if launched_rank() == 0:
            super()._print_message(message, file)


class Command:
    """The command line of one program: `sections` are its `Options` classes, one help group each.

    The first line of a class's docstring titles its group.
    """

    def __init__(
        self, prog: str, description: str, sections: Sequence[type[Options]], *, version: str = "", notes: str = ""
    ) -> None:
        self.parser = Parser(
            prog=prog,
            usage=f"{prog} {' '.join(positionals(sections))}[options]",
            description=description,
            epilog=f"{notes} {EPILOG}".strip(),
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
            add_help=False,
            formatter_class=functools.partial(argparse.HelpFormatter, max_help_position=30),
        )
        self._fields: dict[str, tuple[dataclasses.Field[Any], Any]] = {}
        self._add_general(version)
        for section in sections:
            self._add_section(section)

    def _add_general(self, version: str) -> None:
        group = self.parser.add_argument_group("General")
        group.add_argument("-h", "--help", action="help", help="show this help and exit")
        if version:
            group.add_argument("--version", action="version", version=f"%(prog)s {version}", help="show it and exit")
        group.add_argument(
            "--config", metavar="FILE.yaml", help="take options from this file, by their names here; flags win over it"
        )

    def _add_section(self, section: type[Options]) -> None:
        group = self.parser.add_argument_group((section.__doc__ or section.__name__).splitlines()[0].rstrip("."))
        hints = typing.get_type_hints(section)
        for field in fields_of(section):
            if field.name in self._fields and self._fields[field.name][0].metadata == field.metadata:
                continue  # several modes read it: declared once, shown with the first
            self._fields[field.name] = field, hints[field.name]
            add_argument(group, field, hints[field.name])

    def field(self, name: str) -> dataclasses.Field[Any] | None:
        """How the option of that name is declared; None for the general ones, such as `config`."""
        return self._fields[name][0] if name in self._fields else None

    def hint(self, name: str) -> Any:
        """The type of the option of that name, as it is declared; None where there is none."""
        return self._fields[name][1] if name in self._fields else None

    def parse(self, argv: Sequence[str] | None = None) -> dict[str, Any]:
        """The options that the user gave, by field name; what was not given is absent. Raises OptionsError."""
        words = [self._whole(word) for word in (sys.argv[1:] if argv is None else argv)]
        known, unknown = self.parser.parse_known_intermixed_args(words)
        if unknown:
            raise OptionsError(f"unexpected argument {unknown[0]!r}{self._hint(unknown[0], self._flags())}")
        given = vars(known)
        config = given.pop("config", None)
        flags = self.checked(given)
        return flags if config is None else {**self._read_config(Path(config)), **flags}

    def _flags(self) -> list[str]:
        return [flag for action in self.parser._actions for flag in action.option_strings if flag.startswith("--")]

    def _whole(self, word: str) -> str:
        """A flag as it was declared: `--train_d=a_b` as `--train-data=a_b`; other words as they are."""
        if not word.startswith("--") or word == "--":
            return word
        name, sign, value = word.partition("=")
        name, flags = name.replace("_", "-"), self._flags()
        fits = [name] if name in flags else [flag for flag in flags if flag.startswith(name)]
        if len(fits) > 1:
            raise OptionsError(f"{name} is short for several options: choose one of {', '.join(fits)}")
        if not fits:
            raise OptionsError(f"unknown option {name}{self._hint(name, flags)}")
        return fits[0] + sign + value

    def _hint(self, name: str, known: Sequence[str]) -> str:
        """How to go on: with the known name nearest to `name`, or with the list of them."""
        bare = {other.strip("-"): other for other in known}
        near = difflib.get_close_matches(name.strip("-"), bare, 1)
        return f": did you mean {bare[near[0]]}?" if near else f": {self.parser.prog} --help lists the options"

    def checked(self, values: Mapping[str, Any], source: str = "") -> dict[str, Any]:
        """Options by name as their fields want them; `source` is whom to blame. Raises OptionsError."""
        try:
            return {name: self._value(name, value) for name, value in values.items()}
        except OptionsError as error:
            raise OptionsError(f"{source}: {error}" if source else str(error)) from None

    def _value(self, name: str, value: Any) -> Any:
        if name not in self._fields:
            raise OptionsError(f"unknown option '{name}'{self._hint(name, list(self._fields))}")
        field, hint = self._fields[name]
        return checked(field, hint, parse_value(name, value, hint) if isinstance(value, str) else value)

    def _read_config(self, path: Path) -> dict[str, Any]:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise OptionsError(f"--config {path}: {reason(error)}: give a YAML file of options") from None
        if content is None:
            return {}
        if not isinstance(content, dict):
            raise OptionsError(f"--config {path}: expected lines of the form 'option: value', not one {kind(content)}")
        values = {str(key).replace("-", "_"): value for key, value in content.items()}
        return self.checked(values, f"--config {path}")


def positionals(sections: Sequence[type[Options]]) -> list[str]:
    """The positional options, as the usage line shows them."""
    kinds = [(field, typing.get_type_hints(section)) for section in sections for field in fields_of(section)]
    return [
        f"{metavar_of(field)}{'...' if takes_several(hints[field.name]) else ''} "
        for field, hints in kinds
        if field.metadata["positional"]
    ]


def takes_several(hint: Any) -> bool:
    return plain_type(hint)[0] is tuple


def metavar_of(field: dataclasses.Field[Any]) -> str:
    return str(field.metadata["metavar"] or field.name.split("_")[-1].upper())


def add_argument(group: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    default = default_of(field)
    if plain_type(hint)[0] is bool:
        add_switch(group, field, default)
        return
    choices = field.metadata["choices"]
    notes = [f"one of {', '.join(choices())}"] if choices else []
    notes += [] if default in (None, (), {}) else [f"default {shown(default)}"]
    text = field.metadata["help"] + (f" ({'; '.join(notes)})" if notes else "")
    if field.metadata["positional"]:
        several = "*" if takes_several(hint) else "?"
        group.add_argument(field.name, nargs=several, metavar=metavar_of(field), help=escaped(text))
    else:
        group.add_argument(flag_of(field.name), dest=field.name, metavar=metavar_of(field), help=escaped(text))


def default_of(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def add_switch(group: Any, field: dataclasses.Field[Any], default: Any) -> None:
    """`--name` and `--no-name`; the second is shown where the switch is on by default."""
    yes, no, text = flag_of(field.name), flag_of("no_" + field.name), escaped(field.metadata["help"])
    if default:
        group.add_argument(yes, dest=field.name, action=argparse.BooleanOptionalAction, help=f"{text} (default {yes})")
    else:
        group.add_argument(yes, dest=field.name, action="store_true", help=text)
        group.add_argument(no, dest=field.name, action="store_false", help=argparse.SUPPRESS)


def escaped(text: str) -> str:
    """`text` for argparse, which takes % for its own."""
    return text.replace("%", "%%")


def shown(default: Any) -> str:
    """A default value as one would write it."""
    if isinstance(default, tuple):
        return ",".join(default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def kind(content: Any) -> str:
    """What a YAML file holds, in plain words."""
    return "list" if isinstance(content, list) else f"value {str(content)[:40]!r}"


def build(section: type[T], *layers: Mapping[str, Any]) -> T:
    """An instance of `section` from dictionaries of values; the first that has a name wins."""
    names = {field.name for field in fields_of(section)}
    values: dict[str, Any] = {}
    for layer in reversed(layers):
        values.update({k: v for k, v in layer.items() if k in names})
    return section(**values)


def reason(error: Exception) -> str:
    """Why a text file cannot be used, on one line."""
    if isinstance(error, UnicodeDecodeError):
        return "not a text file"
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem or error.context}"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split())[:500]


def run(prog: str, main: Callable[[], None]) -> NoReturn:
    """Run a command: errors of ours become one line on rank 0's stderr and their exit code."""
    try:
        main()
    except NnloError as error:
        if launched_rank() == 0:
            note_error(str(error))
            print(f"{prog}: {' '.join(str(error).splitlines())}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(f"{prog}: interrupted: the weights are lost", file=sys.stderr, flush=True)
        sys.exit(1)
    sys.exit(0)
