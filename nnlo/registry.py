"""Named plug-ins: duplicates are refused, and an unknown name is answered with the known ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from nnlo.errors import OptionsError

T = TypeVar("T")


class Registry(Generic[T]):
    """A table from names to things of one kind, for example the optimizers.

    `kind` is the singular noun that messages use, after the `flag` that names one, where there is a single such flag:
    "--metrics: unknown metric 'acu': ...".
    """

    def __init__(self, kind: str, flag: str = "") -> None:
        self.kind = kind
        self.where = f"{flag}: " if flag else ""
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
        near = nearest(name, self.names)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise OptionsError(f"{self.where}unknown {self.kind} '{name}': choose one of {', '.join(self)}{hint}")

    @property
    def names(self) -> list[str]:
        """All names that are understood, the aliases too."""
        return [*self._entries, *self._aliases]

    def __getitem__(self, name: str) -> T:
        return self._entries[self.canonical(name)]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._aliases

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._entries))


#: How alike two names are at least, from 0 to 1, for one to be a slip of the other.
ALIKE = 0.7


def nearest(name: str, known: Iterable[str], count: int = 1) -> list[str]:
    """At most `count` of the known names that `name` may be a slip of, the likeliest first; case does not matter."""
    folded = {one.casefold(): one for one in known}
    return [folded[one] for one in difflib.get_close_matches(name.casefold(), folded, count, ALIKE)]
