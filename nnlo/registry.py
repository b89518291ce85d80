"""Named plug-ins: duplicates are refused, and an unknown name is answered with the known ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from nnlo.errors import OptionsError

T = TypeVar("T")


class Registry(Generic[T]):
    """A table from names to things of one kind, for example the optimizers.

    `kind` is the singular noun that messages use: "unknown optimizer 'sdg': ...".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._aliases: dict[str, str] = {}

    def register(self, name: str, entry: T, aliases: tuple[str, ...] = ()) -> T:
        for key in (name, *aliases):
            if key in self._entries or key in self._aliases:
                raise ValueError(f"{self.kind} '{key}' is registered twice")
        self._entries[name] = entry
        self._aliases.update(dict.fromkeys(aliases, name))
        return entry

    def canonical(self, name: str) -> str:
        """The name that an entry is listed under, whichever of its names is given."""
        if name in self._entries:
            return name
        if name in self._aliases:
            return self._aliases[name]
        raise OptionsError(f"unknown {self.kind} '{name}': choose one of {', '.join(self)}")

    def __getitem__(self, name: str) -> T:
        return self._entries[self.canonical(name)]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._aliases

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))
