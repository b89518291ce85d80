"""Shows what our docstrings say of parameters, "name: what it is.", as lists on the reference's pages."""

from __future__ import annotations

import re
from typing import Any

from griffe import Attribute, Class, Extension, Function


class ParameterLists(Extension):
    """Changes docstrings as they are read; the sources stay as they are."""

    def on_function(self, *, func: Function, **kwargs: Any) -> None:
        rewrite(func, [parameter.name for parameter in func.parameters])

    def on_class(self, *, cls: Class, **kwargs: Any) -> None:
        made = cls.members.get("__init__")
        names = [parameter.name for parameter in made.parameters] if isinstance(made, Function) else []
        fields = [name for name, member in cls.members.items() if isinstance(member, Attribute)]
        rewrite(cls, [*names, *fields])


def rewrite(owner: Class | Function, names: list[str]) -> None:
    if owner.docstring is not None:
        owner.docstring.value = listed(owner.docstring.value, names)


def listed(text: str, names: list[str]) -> str:
    """`text` with an item for each sentence that begins with names of parameters and a colon, and "Raises" apart."""
    if not names:
        return text
    name = f"`?(?:{'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})`?"
    begins = re.compile(rf"(?:^|(?<=\.)\s+|;\s+)({name}(?:, {name})*): ", re.MULTILINE)
    items = begins.sub(lambda found: f"\n\n- {in_code(found[1])}: ", text)
    return re.sub(r"(?<=\.)\s+(?=Raises [A-Z])", "\n\n", items) if items != text else text


def in_code(names: str) -> str:
    return ", ".join(f"`{name.strip('`')}`" for name in names.split(", "))
