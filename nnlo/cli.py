"""Command lines out of `Options` classes, and how a command ends.

Flags and YAML keys may be written with `-` or `_`; a prefix that fits one flag alone is enough.
A flag wins over the file named by `--config`, and both win over the defaults.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml

from nnlo.errors import NnloError, OptionsError
from nnlo.options import Options, base_type, flag_of, parse_value

O = TypeVar("O", bound=Options)

RANK_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def launched_rank() -> int:
    """This process's rank as its launcher tells it, without touching MPI; 0 where there is none."""
    for name in RANK_VARIABLES:
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0


class Parser(argparse.ArgumentParser):
    """An argparse parser whose complaints are one line, and whose help is printed by rank 0 alone."""

    def error(self, message: str) -> NoReturn:
        raise OptionsError(f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: Any = None) -> None:
        if launched_rank() == 0:
            super()._print_message(message, file)


class Command:
    """The command line of one program: `sections` are its `Options` classes, one help group each.

    The first line of a class's docstring titles its group.
    """

    def __init__(self, prog: str, description: str, sections: Sequence[type[Options]], version: str = "") -> None:
        self.parser = Parser(prog=prog, description=description, argument_default=argparse.SUPPRESS)
        self.hints: dict[str, Any] = {}
        if version:
            self.parser.add_argument("--version", action="version", version=f"%(prog)s {version}", help="print it")
        self.parser.add_argument("--config", metavar="FILE.yaml", help="read options from this file; flags win over it")
        for section in sections:
            self._add_section(section)

    def _add_section(self, section: type[Options]) -> None:
        group = self.parser.add_argument_group((section.__doc__ or section.__name__).splitlines()[0].rstrip("."))
        hints = typing.get_type_hints(section)
        for field in dataclasses.fields(section):
            if not field.metadata.get("hidden"):
                self.hints[field.name] = hints[field.name]
                add_flag(group, field, hints[field.name])

    def parse(self, argv: Sequence[str] | None = None) -> dict[str, Any]:
        """The options that the user gave, by field name; what was not given is absent."""
        given = self._parse_flags(sys.argv[1:] if argv is None else argv)
        if config := given.pop("config", None):
            given = {**self._read_config(Path(config)), **given}
        return given

    def _parse_flags(self, argv: Sequence[str]) -> dict[str, Any]:
        texts = vars(self.parser.parse_args([normalised(word) for word in argv]))
        return {k: self._value(k, v) if isinstance(v, str) else v for k, v in texts.items()}

    def _value(self, name: str, text: str) -> Any:
        return text if name == "config" else parse_value(name, text, self.hints[name])

    def _read_config(self, path: Path) -> dict[str, Any]:
        try:
            content = yaml.safe_load(path.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise OptionsError(f"--config {path}: {first_line(error)}") from None
        if not isinstance(content, dict):
            raise OptionsError(f"--config {path}: expected a mapping of option names to values")
        values = {str(key).replace("-", "_"): value for key, value in content.items()}
        if unknown := sorted(set(values) - set(self.hints)):
            raise OptionsError(f"--config {path}: unknown option {unknown[0]}; known are {', '.join(self.hints)}")
        return {k: self._value(k, v) if isinstance(v, str) else v for k, v in values.items()}


def normalised(word: str) -> str:
    """`--train_data=a_b` as `--train-data=a_b`."""
    name, sign, value = word.partition("=")
    return (name.replace("_", "-") if name.startswith("--") else name) + sign + value


def add_flag(group: Any, field: dataclasses.Field[Any], hint: Any) -> None:
    kind, _ = base_type(hint)
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    text = field.metadata["help"].replace("%", "%%")
    if kind is bool:
        flag, action = (flag_of("no_" + field.name), "store_false") if default else (flag_of(field.name), "store_true")
        group.add_argument(flag, dest=field.name, action=action, help=text)
        return
    shown = "" if default in (None, (), {}) else f" (default {join(default)})"
    choices = field.metadata.get("choices")
    offered = f": {', '.join(choices())}" if choices else ""
    group.add_argument(
        flag_of(field.name),
        dest=field.name,
        metavar=field.metadata.get("metavar") or field.name.split("_")[-1].upper(),
        help=f"{text}{offered.replace('%', '%%')}{shown}",
    )


def join(default: Any) -> str:
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def build(section: type[O], *layers: Mapping[str, Any]) -> O:
    """An instance of `section` from dictionaries of values; the first that has a name wins."""
    names = {field.name for field in dataclasses.fields(section)}
    values: dict[str, Any] = {}
    for layer in reversed(layers):
        values.update({k: v for k, v in layer.items() if k in names})
    return section(**values)


def first_line(error: BaseException) -> str:
    """What an exception says, on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (" ".join(str(error).split()) or type(error).__name__)[:500]


def run(prog: str, main: Callable[[], None]) -> NoReturn:
    """Run a command: errors of ours become one line on rank 0's stderr and their exit code."""
    try:
        main()
    except NnloError as error:
        if launched_rank() == 0:
            print(f"{prog}: {error}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    sys.exit(0)
