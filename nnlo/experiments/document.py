"""A YAML file whose every entry knows its line, so that complaints can name it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from nnlo.errors import OptionsError

Place = tuple[str | int, ...]
"""Names and numbers that lead to an entry: ("runs", 2, "lr")."""


class Document:
    """`content` is plain lists and dictionaries. Raises OptionsError where the file is none, or has a name twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[Place, int] = {}
        self.content: Any
        try:
            text = path.read_text(encoding="utf-8")
            root, self.content = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            where = f", line {mark.line + 1}" if mark else ""
            raise OptionsError(f"{path}{where}: {error.problem or error.context}: give a YAML file") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            said = "not a text file" if isinstance(error, UnicodeDecodeError) else str(error).splitlines()[0]
            raise OptionsError(f"{path}: cannot be read: {said}") from None
        self._note(root, ())

    def _note(self, node: yaml.Node | None, place: Place) -> None:
        if node is None:
            return
        self._lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*place, str(key.value))
                if inner in self._lines:
                    self.fail(inner, f"'{key.value}' comes twice: drop one", key.start_mark.line + 1)
                self._lines[inner] = key.start_mark.line + 1
                self._note(value, inner)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                self._note(value, (*place, number))

    def fail(self, place: Sequence[str | int], complaint: str, line: int | None = None) -> NoReturn:
        """Raises OptionsError with the file and the line of that place, or of what it is in."""
        known = tuple(place)
        while known and known not in self._lines:
            known = known[:-1]
        raise OptionsError(f"{self.path}, line {line or self._lines.get(known, 1)}: {complaint}")
