"""Copies of listed files in a folder near the ranks, which last as long as the run."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from nnlo.errors import DataError, OptionsError

#: Environment variables that stand for the options where these are not given.
FOLDER_VARIABLE, COMMAND_VARIABLE = "DATA_CACHE", "DATA_COPY_COMMAND"
#: How the folders of runs begin, and the file in each that its run keeps locked.
PREFIX, LOCK = "nnlo-", ".lock"
#: Characters of a file's own name that its copy keeps: with its number, at most what file systems allow.
KEPT_NAME = 60


@dataclass(frozen=True)
class CopyCommand:
    """A command that copies one file, run without a shell: "cp {} {}", the source and then the destination."""

    template: str

    def __post_init__(self) -> None:
        fault = self._fault()
        if fault:
            raise OptionsError(f"--copy-command {self.template!r} {fault}: write it as in 'cp {{}} {{}}'")

    def _fault(self) -> str:
        try:
            words = shlex.split(self.template)
        except ValueError as error:
            return f"cannot be read ({error})"
        if sum(word.count("{}") for word in words) != 2:
            return "must have two {}, for the source and the destination"
        return "" if shutil.which(words[0]) else f"names no program that is here ('{words[0]}')"

    def words(self, source: str, destination: str) -> list[str]:
        names = iter((source, destination))
        return [filled(word, names) for word in shlex.split(self.template)]

    def __call__(self, source: str, destination: str) -> None:
        """Raises DataError, with the last line of what the command complained of."""
        words = self.words(source, destination)
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        said = done.stderr.decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(said) if line.strip()), "it said nothing")
        if done.returncode:
            raise DataError(f"{source}: `{shlex.join(words)}` failed with {done.returncode} ({last}): {FIX}")
        if not os.path.isfile(destination):
            raise DataError(f"{source}: `{shlex.join(words)}` left no file there ({last}): {FIX}")


FIX = "correct the list or --copy-command"


def filled(word: str, names: Iterator[str]) -> str:
    """A word of a command with the next name for each {}."""
    first, *others = word.split("{}")
    return first + "".join(next(names) + text for text in others)


def copy_plain(source: str, destination: str) -> None:
    """Raises DataError."""
    try:
        shutil.copyfile(source, destination)
    except OSError as error:
        folder, reason = os.path.dirname(destination), error.strerror or str(error)
        raise DataError(f"{source}: cannot be copied to --cache-data {folder} ({reason}): {remedy(error)}") from None


def remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room there or name another folder"
    return "correct the list or name another folder"


@dataclass(frozen=True)
class CacheSettings:
    """In which folder the listed files are cached, and by which command they get there (None: a plain copy)."""

    folder: str
    command: CopyCommand | None

    @classmethod
    def of(cls, folder: str | Path | None, command: str | None) -> CacheSettings | None:
        """What was asked for, by these options or else by the environment. Raises OptionsError."""
        found = os.fspath(folder) if folder is not None else os.environ.get(FOLDER_VARIABLE)
        if not found:
            if command is not None:
                raise OptionsError("--copy-command needs --cache-data: name a folder for the copies")
            return None
        template = command if command is not None else os.environ.get(COMMAND_VARIABLE)
        return cls(os.path.abspath(found), CopyCommand(template) if template else None)

    def paths(self, names: Iterable[str], run: str) -> dict[str, str]:
        """Where the copies of these files are in the run of that name; equal names in different folders stay apart."""
        different = enumerate(dict.fromkeys(names))
        return {name: os.path.join(self.folder, PREFIX + run, f"{i:06}-{short(name)}") for i, name in different}


def short(name: str) -> str:
    """The last part of a path or an address, its end where it is very long."""
    return name.rstrip("/").rpartition("/")[2][-KEPT_NAME:]


class RunFolder:
    """The folder of one run's copies. Whoever makes it fills it and removes it; it stays locked meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        scratch = path / (LOCK + ".new")
        self._lock = scratch.open("w")
        self._lock.write(socket.gethostname())
        self._lock.flush()
        lock(self._lock)
        os.replace(scratch, path / LOCK)

    @classmethod
    def make(cls, settings: CacheSettings, run: str) -> RunFolder | None:
        """The run's folder; None where another rank has made it, on a disk that several hosts see. Raises DataError."""
        path = Path(settings.folder, PREFIX + run)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent)
            return cls(path) if made(path) else None
        except OSError as error:
            reason = error.strerror or error
            raise DataError(f"--cache-data {path.parent}: cannot write there ({reason}): name another") from None

    def fill(self, paths: Mapping[str, str], command: CopyCommand | None) -> int:
        """Copy each file to its path; returns the bytes of them all. Raises DataError at the first that fails."""
        copy: Callable[[str, str], None] = command or copy_plain
        for source, destination in paths.items():
            copy(source, destination)
        return sum(os.path.getsize(destination) for destination in paths.values())

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def made(path: Path) -> bool:
    """Make a folder; False where it is there already."""
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def lock(file: IO[str]) -> bool:
    """Lock a file for as long as it is open; False where it is locked already, or cannot be."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def sweep(folder: Path) -> None:
    """Remove the folders of runs of this host that were killed: their locks are free.

    Of other hosts, whose disk this may be too, a lock may not be seen here.
    """
    for path in folder.glob(f"{PREFIX}*/{LOCK}"):
        with suppress(OSError), open(path, "r+") as file:
            if file.read() == socket.gethostname() and lock(file):
                shutil.rmtree(path.parent, ignore_errors=True)
