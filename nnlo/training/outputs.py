"""Callbacks that leave files: where these go, and that nothing is there already."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, TextIO

from nnlo.errors import OptionsError
from nnlo.training.atomic import writing
from nnlo.training.callbacks import Callback, Logs
from nnlo.training.files import check_free


class OutputCallback(Callback):
    """Base of the callbacks that leave files, under the run's name in its output folder or elsewhere."""

    def named(self, ending: str) -> Path:
        """The run's file of that ending, from now on this callback's. Raises OptionsError where there is no such."""
        files = self.manager.files
        if files is None:
            raise OptionsError(f"{type(self).__name__} has no place for its files: give the manager an output folder")
        path: Path = files.named(ending)
        self.claim(path, f"--output {files.folder}", "give another --trial-name")
        return path

    def claim(self, path: Path, what: str, otherwise: str) -> None:
        """Have `path` for this callback alone. Raises OptionsError, about `what`, where it cannot be written.

        `otherwise` is what to do where it is there.
        """
        check_free(path.parent, [path], self.manager.overwrite, what, otherwise)
        if self.manager.files is not None:
            self.manager.files.claim(self, path)


class LineFile(OutputCallback):
    """Base of the callbacks that write a text file line by line; each line can be read as soon as it is written.

    filename: None for the run's file of the class's `ending`.
    """

    ending: ClassVar[str]
    retells = True

    def __init__(self, filename: str | os.PathLike[str] | None = None) -> None:
        self.filename = filename
        self.path = Path()
        self._file: TextIO | None = None

    def check(self, measured: Collection[str]) -> None:
        if self.filename is None:
            self.path = self.named(self.ending)
        else:
            self.path = Path(self.filename)
            self.claim(self.path, f"{type(self).__name__} {self.path.parent}", "name another file")

    def on_train_begin(self, logs: Logs) -> None:
        """An earlier run's file goes; this run's comes with its first line, so that none is ever empty."""
        with writing(self.path):
            if self.path.is_file():  # never a pipe, or a device such as /dev/stdout
                self.path.unlink(missing_ok=True)

    def write(self, text: str) -> None:
        """Add `text`, which ends with a newline. Raises DataError."""
        with writing(self.path):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("a", encoding="utf-8", newline="")
            self._file.write(text)
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # of lines that a full disk refused, which has been told
                self._file.close()
            self._file = None
