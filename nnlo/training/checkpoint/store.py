"""A folder of checkpoints: each a folder of its own that is there whole or not at all.

    BASE/000012/manifest.json         what the checkpoint holds, with the size and the SHA-256 of each file
    BASE/000012/master.safetensors    one file for each rank that has something to keep
    BASE/000012/worker-1.safetensors
    BASE/best                         the name of the best one, where one is asked for
    BASE/status.json                  how the run is doing, or how it ended

A checkpoint is written under another name; once all of it is on the disk it gets its own. One that is to go loses its
name first.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nnlo.errors import DataError, OptionsError
from nnlo.logs import LOG
from nnlo.training.atomic import SCRATCH, discard, flush, replacing
from nnlo.training.checkpoint.parcel import Tree, unpacked
from nnlo.training.strict_json import dumps

FORMAT = 1
MANIFEST, BEST, STATUS = "manifest.json", "best", "status.json"
NAME = re.compile(r"\d{6,}")
#: What a checkpoint is called that is being written, or removed.
UNFINISHED = ".unfinished-"


class Draft:
    """A checkpoint that is being written to `folder`; files are added one after another.

    What the system says against it becomes its `fault`; from then on nothing is written.
    """

    def __init__(self, base: Path) -> None:
        self._base, self.folder = base, base / f"{UNFINISHED}{uuid.uuid4().hex}"
        self.fault: str | None = None
        self._files: dict[str, dict[str, Any]] = {}
        self._open: tuple[int, str, Any, int] | None = None
        self._attempt(lambda: self.folder.mkdir(parents=True))

    def begin(self, name: str) -> None:
        """What is added from now on goes into this file."""

        def begin() -> None:
            descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            self._open = (descriptor, name, hashlib.sha256(), 0)

        self._attempt(begin)

    def add(self, data: bytes | memoryview) -> None:
        def add() -> None:
            assert self._open is not None
            descriptor, name, digest, size = self._open
            write_all(descriptor, data)
            digest.update(data)
            self._open = (descriptor, name, digest, size + len(data))

        self._attempt(add)

    def end(self) -> None:
        """The file is whole."""

        def end() -> None:
            assert self._open is not None
            descriptor, name, digest, size = self._open
            self._open = None
            os.close(descriptor)
            self._files[name] = {"bytes": size, "sha256": digest.hexdigest()}

        self._attempt(end)

    def drop(self, name: str) -> None:
        """The file that is open is not wanted after all."""

        def drop() -> None:
            if self._open is not None:
                os.close(self._open[0])
                self._open = None
            (self.folder / name).unlink(missing_ok=True)

        self._attempt(drop)

    def finish(self, about: Mapping[str, Any], name: str) -> Path:
        """Put all on the disk, under its `name`. Raises DataError; nothing without a name is left then."""
        try:
            if self.fault is not None:
                raise DataError(self.fault)
            self._write_manifest(about)
            for file in (*self._files, MANIFEST):
                flush(self.folder / file)
            flush(self.folder)
            os.rename(self.folder, self._base / name)
            flush(self._base)
        except OSError as error:
            raise DataError(fault_of(self._base, error)) from error
        finally:
            self.discard()
        return self._base / name

    def _write_manifest(self, about: Mapping[str, Any]) -> None:
        content = {"format": FORMAT, **about, "files": self._files}
        text = json.dumps(content)
        whole = {"content": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
        descriptor = os.open(self.folder / MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_all(descriptor, json.dumps(whole).encode())
        finally:
            os.close(descriptor)

    def discard(self) -> None:
        """Leave nothing of what has no name yet."""
        if self._open is not None:
            descriptor, self._open = self._open[0], None
            with suppress(OSError):  # of what a full disk refused, which has been told
                os.close(descriptor)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _attempt(self, work: Any) -> None:
        if self.fault is not None:
            return
        try:
            work()
        except OSError as error:
            self.fault = fault_of(self._base, error)


class Store:
    """The checkpoints in `base`, of which the last `keep` and the best are kept."""

    def __init__(self, base: Path, keep: int = 2) -> None:
        self.base, self._keep = base, keep

    def names(self) -> list[str]:
        """The checkpoints that are there, oldest first. Raises DataError where the folder cannot be read."""
        try:
            found = [entry.name for entry in os.scandir(self.base) if NAME.fullmatch(entry.name)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise DataError(f"{self.base}: cannot read ({error.strerror}): name a folder of checkpoints") from None
        return sorted(found, key=int)

    def open(self) -> None:
        """Make the folder, without what writers that were killed have left. Raises OptionsError."""
        try:
            self.base.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.base):
                pass
        except OSError as error:
            said = f"cannot write there ({error.strerror}): name another folder"
            raise OptionsError(f"--checkpoint {self.base}: {said}") from None
        for left in self.base.glob(f"{UNFINISHED}*"):
            shutil.rmtree(left, ignore_errors=True)
        for left in self.base.glob(f"{SCRATCH}*"):
            discard(left)

    def following(self) -> str:
        """The name of the next one."""
        names = self.names()
        return f"{int(names[-1]) + 1 if names else 1:06d}"

    def draft(self) -> Draft:
        return Draft(self.base)

    def clean(self) -> None:
        """Remove all but the last ones and the best."""
        best = self.best()
        for name in self.names()[: -self._keep]:
            if name != best:
                self._remove(name)

    def clear(self) -> None:
        """Remove all."""
        (self.base / BEST).unlink(missing_ok=True)
        for name in self.names():
            self._remove(name)

    def _remove(self, name: str) -> None:
        unnamed = self.base / f"{UNFINISHED}{uuid.uuid4().hex}"
        try:
            os.rename(self.base / name, unnamed)
        except OSError as error:
            LOG.warning("%s: cannot remove (%s)", self.base / name, error.strerror)
        else:
            shutil.rmtree(unnamed, ignore_errors=True)

    def best(self) -> str | None:
        """The name of the best one, None where none is marked."""
        try:
            name = (self.base / BEST).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return name if NAME.fullmatch(name) else None

    def mark_best(self, name: str) -> None:
        with replacing(self.base / BEST) as scratch:
            scratch.write_text(name + "\n", encoding="utf-8")

    def status(self, **told: Any) -> None:
        """Say how the run is doing. Raises DataError."""
        with replacing(self.base / STATUS) as scratch:
            scratch.write_text(dumps(told), encoding="utf-8")


class Saved:
    """A checkpoint that is read: `about` is what its manifest says. Raises DataError where that is damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = read_manifest(folder)

    @staticmethod
    def is_at(path: Path) -> bool:
        """Whether that is one, and no folder of several."""
        return (path / MANIFEST).exists()

    def check(self) -> None:
        """Read all files. Raises DataError where one of them is not as it was written."""
        for name in self.about["files"]:
            self.data(name)

    def data(self, name: str) -> bytes:
        """The bytes of a file of it. Raises DataError."""
        said = self.about["files"][name]
        try:
            data = (self.folder / name).read_bytes()
        except OSError as error:
            raise DataError(f"{self.folder / name}: cannot read ({error.strerror})") from None
        if len(data) != said["bytes"] or hashlib.sha256(data).hexdigest() != said["sha256"]:
            raise DataError(f"{self.folder / name}: damaged: it is not as it was written")
        return data

    def tree(self, name: str) -> Tree:
        return unpacked(self.data(name), str(self.folder / name))


def read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    try:
        whole = json.loads(path.read_bytes())
        text, digest = whole["content"], whole["sha256"]
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            raise ValueError
        content: dict[str, Any] = json.loads(text)
    except OSError as error:
        raise DataError(f"{path}: cannot read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{path}: damaged: it is not as it was written") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{folder}: a checkpoint of another version: use the nnlo of its run")
    return content


def newest(base: Path) -> Saved | None:
    """The last checkpoint in `base` that is whole, None where there is none at all; damaged ones are told of.

    `base` may be a checkpoint itself. Raises DataError where there are checkpoints, and none is whole.
    """
    if Saved.is_at(base):
        return whole(base)
    names = Store(base).names()
    faults = []
    for name in reversed(names):
        try:
            found = whole(base / name)
        except DataError as error:
            faults.append(str(error))
            continue
        for fault in faults:
            LOG.warning("%s; restoring %s, the one before", fault, found.folder)
        return found
    if faults:
        raise DataError(f"{faults[0]}, and {base} has no other: name another folder, or train anew without --restore")
    return None


def whole(folder: Path) -> Saved:
    saved = Saved(folder)
    saved.check()
    return saved


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """The system may take a part at a time."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def fault_of(base: Path, error: OSError) -> str:
    return f"--checkpoint {base}: cannot write there ({error.strerror or error})"
