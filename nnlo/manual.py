"""The options of a command as Markdown, for the README and the documentation.

    python -m nnlo.manual README.md docs/reference/options.md     # what `make options` runs

What stands in those files between `<!-- options NAME -->`, or `<!-- options NAME GROUP -->` for one group alone, and
`<!-- /options -->` is written anew.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nnlo.cli import Command, default_of, shown

MARKED = re.compile(r"(<!-- options (\w+)(?: (\w+))? -->\n).*?(<!-- /options -->)", re.DOTALL)


def tables(command: Command, only: str | None = None) -> str:
    """One table for each group of options, or for one of them: flag, default, what it does."""
    groups = [(group.title, list(rows(command, group))) for group in command.parser._action_groups]
    return "\n".join(table(title or "", found) for title, found in groups if found and only in (None, title))


def table(title: str, found: list[tuple[str, str, str]]) -> str:
    lines = [f"### {title}", "", "| option | default | what |", "| --- | --- | --- |"]
    return "\n".join([*lines, *(f"| {' | '.join(map(cell, row))} |" for row in found), ""])


def rows(command: Command, group: argparse._ArgumentGroup) -> Iterator[tuple[str, str, str]]:
    """(option, default, what) of each option in a group, but for those that the help does not show."""
    for action in group._group_actions:
        field = command.field(action.dest)
        if action.help == argparse.SUPPRESS:
            continue
        if field is None:
            yield usage(action), "", plain((action.help or "") % {"prog": command.parser.prog})
        else:
            yield usage(action), default_text(field), what(field)


def default_text(field: dataclasses.Field[Any]) -> str:
    """The default, empty where the help says in words what it is or where there is none."""
    default = default_of(field)
    if default is None or default is False or default in ((), {}):
        return ""
    return "on" if default is True else code(shown(default))


def what(field: dataclasses.Field[Any]) -> str:
    """What the option does, and the values to choose from."""
    choices = field.metadata["choices"]
    return plain(field.metadata["help"]) + (f"; one of {', '.join(map(code, choices()))}" if choices else "")


def usage(action: argparse.Action) -> str:
    """How the option is written, with a name for its value."""
    metavar = str(action.metavar or "")
    return ", ".join(code(f"{flag} {metavar}".strip()) for flag in action.option_strings) or code(metavar)


def code(text: str) -> str:
    return f"`{text}`"


def plain(text: str) -> str:
    """Words that Markdown leaves as they are."""
    return text.replace("<", "&lt;").replace("*", "\\*")


def cell(text: str) -> str:
    """Text of one cell: a bar would end it."""
    return text.replace("|", "\\|")


def filled(text: str) -> str:
    """`text` with new tables between its markers."""
    return MARKED.sub(lambda found: f"{found[1]}\n{tables(command_of(found[2]), found[3])}\n{found[4]}", text)


def command_of(driver: str) -> Command:
    """The command line of that driver."""
    command: Command = importlib.import_module(f"nnlo.drivers.{driver}").command()
    return command


def main(paths: list[str]) -> None:
    for path in map(Path, paths):
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
