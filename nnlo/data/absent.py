"""Datasets that files lack: told once where it is the name that is wrong, not the files."""

from __future__ import annotations

from collections.abc import Sequence

from nnlo.errors import DataError


class NoDataset(DataError):
    """A file without the dataset `name`, which `flag` gave; `there` says in words what it has."""

    def __init__(self, file: str, name: str, there: str, flag: str) -> None:
        super().__init__(f"{file}: has no dataset '{name}': it has {there} ({flag})")
        self.name, self.there, self.flag = name, there, flag


def wrong_name(files: Sequence[str], absent: Sequence[Sequence[str]], flag: str) -> DataError | None:
    """The error for a name that no file of the list, which `flag` gave, has a dataset of; None for other faults.

    absent: of each file the name, what is there instead and the name's flag; empty where no dataset was missed.
    """
    if not all(absent) or len({(name, given) for name, _, given in absent}) != 1:
        return None
    name, there, given = absent[0]
    rest = len(files) - 1
    more = f" and {rest} more file{'s' if rest > 1 else ''}" if rest else ""
    alike = len({other for _, other, _ in absent}) == 1
    who = "it has" if not rest else "they have" if alike else "the first has"
    return DataError(f"no dataset '{name}' in {files[0]}{more}: {who} {there}: correct {given}, or the list ({flag})")
