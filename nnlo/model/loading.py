"""Running code that a user names: a file or a module. What it raises becomes one line."""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from nnlo.errors import NnloError, OptionsError, describe


@contextmanager
def user_code(what: str, file: str | None = None) -> Iterator[None]:
    """What the user's code raises inside becomes an OptionsError that names `what`, and the line in `file`.

    Errors of this library pass as they are.
    """
    try:
        yield
    except NnloError:
        raise
    except (Exception, SystemExit) as error:
        line = _line_in(file, error)
        place = f"{what}, line {line}" if line else what
        raise OptionsError(f"{place}: {describe(error)}") from error


class FreshLoader(importlib.machinery.SourceFileLoader):
    """Compiles the source each time.

    Python knows a cached .pyc by the second of its source's change and its size, which an edited file can
    have too, and the ranks of a job would all write it.
    """

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load_file(path: Path, what: str) -> ModuleType:
    """The module that a .py file holds, executed anew under a private name. `what` names it in messages.

    Its own folder and the current one are importable from now on. Raises OptionsError.
    """
    path = path.resolve()
    importable(Path.cwd())
    importable(path.parent)
    name = f"_nnlo_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if path.suffix != ".py":
        raise OptionsError(f"{what} is no Python source: give the path of a .py file")
    loader = FreshLoader(name, str(path))
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, loader, origin=str(path)))
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        with user_code(what, str(path)):
            loader.exec_module(module)
    except OptionsError:
        del sys.modules[name]
        raise
    return module


def named_object(spec: str, what: str, kind: str, fits: Callable[[Any], bool]) -> Any:
    """What 'package.module:name' or 'file.py:name' names, if it `fits`; `what` and `kind` ("class") go into messages.

    Raises OptionsError where the place cannot be loaded or holds no such thing.
    """
    place, _, name = spec.rpartition(":")
    forms = f"give module:{kind} or file.py:{kind}"
    if not place or not name:
        raise OptionsError(f"{what}: {forms}")
    importable(Path.cwd())
    if place.endswith(".py") and not Path(place).is_file():
        raise OptionsError(f"{what}: file '{place}' is not there, {forms}")
    with user_code(what):
        module = load_file(Path(place), what) if place.endswith(".py") else importlib.import_module(place)
        found = getattr(module, name, None)
    if not fits(found):
        raise OptionsError(f"{what}: '{place}' has no {kind} '{name}', {forms}")
    return found


def importable(folder: Path) -> None:
    """Put the folder in front of the import path, as Python does with a script's, unless it is there."""
    entry = str(folder)
    if entry not in sys.path:
        sys.path.insert(0, entry)


def _line_in(file: str | None, error: BaseException) -> int | None:
    """The last line of `file` that the exception passed through, or where its syntax is wrong."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame.lineno for frame in reversed(frames) if frame.filename == file), None)
