"""Where a model comes from: the ready-made ones by name, a user's own from a .py file."""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from nnlo.errors import OptionsError
from nnlo.model.loading import load_file, user_code
from nnlo.registry import nearest


class ModelSource:
    """A module with `get_model(**params)` and, where it likes, `get_name()`, `get_train()`, `get_val()`,
    `get_features()`, `get_labels()`, `param_groups(model)`, `get_model.defaults`, `get_model.data_sets` and
    `get_model.parameter_range`.

    `what` names it in messages. Raises OptionsError where the module lacks get_model or its parts are unfit.
    """

    def __init__(self, module: ModuleType, name: str, what: str) -> None:
        self._module = module
        self._what = what
        self._get_model = getattr(module, "get_model", None)
        if not callable(self._get_model):
            raise OptionsError(f"{what} has no function get_model(**params) that returns a torch module: add one")
        self.name = self._checked_name(self._call("get_name"), name)

    def get_model(self, **params: Any) -> nn.Module:
        """A fresh model. Raises OptionsError for parameters that it does not take and for what get_model raises."""
        assert self._get_model is not None
        self._check_params(self._get_model, params)
        with self._user_code():
            model = self._get_model(**params)
        if not isinstance(model, nn.Module):
            raise OptionsError(f"{self._what}: get_model returned {type(model).__name__}, a torch.nn.Module is wanted")
        return model

    @property
    def parameters(self) -> list[str]:
        """The names of get_model's parameters, but for those that stand for any."""
        assert self._get_model is not None
        known = inspect.signature(self._get_model).parameters.values()
        return [one.name for one in known if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]

    @property
    def defaults(self) -> dict[str, object]:
        """Options that suit the model, by flag name: {"optimizer": "adam", "lr": 1e-3}; empty where it names none."""
        found = getattr(self._get_model, "defaults", None) or {}
        if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
            raise OptionsError(f"{self._what}: get_model.defaults must be a dict of options by name")
        return dict(found)

    @property
    def data_sets(self) -> tuple[str, ...]:
        """The ready-made data sets that fit the model, the best first: get_model.data_sets, a name or several.

        None where it says nothing.
        """
        found = getattr(self._get_model, "data_sets", ())
        names = (found,) if isinstance(found, str) else found
        if not isinstance(names, (tuple, list)) or not all(isinstance(name, str) for name in names):
            raise OptionsError(f"{self._what}: get_model.data_sets must be names of data sets, not {found!r}")
        return tuple(names)

    @property
    def parameter_range(self) -> list[Any]:
        """The skopt dimensions of get_model's parameters, empty where there are none.

        The attribute may be a function that returns them, so that skopt is imported only when asked for.
        """
        found = getattr(self._get_model, "parameter_range", None)
        with self._user_code():
            return list((found() if callable(found) else found) or [])

    @property
    def train_list(self) -> Any:
        """What get_train() returns: the list of training files; None where the model names none."""
        return self._call("get_train")

    @property
    def val_list(self) -> Any:
        """What get_val() returns: the list of validation files; None where the model names none."""
        return self._call("get_val")

    @property
    def features(self) -> Any:
        """What get_features() returns: a dataset's name, or (name, adaptor); None where the model names none."""
        return self._call("get_features")

    @property
    def labels(self) -> Any:
        """What get_labels() returns: a dataset's name, or (name, adaptor); None where the model names none."""
        return self._call("get_labels")

    def param_groups(self, model: nn.Module) -> Any:
        """What param_groups(model) returns: the optimizer's parameter groups; None where the module has none."""
        with self._user_code():
            return getattr(self._module, "param_groups", lambda model: None)(model)

    def _user_code(self) -> Any:
        return user_code(self._what, getattr(self._module, "__file__", None))

    def _call(self, function: str) -> Any:
        """The module's optional function, called."""
        with self._user_code():
            return getattr(self._module, function, lambda: None)()

    def _checked_name(self, given: Any, default: str) -> str:
        name = default if given is None else given
        if not isinstance(name, str) or not name or "/" in name or os.sep in name:
            raise OptionsError(f"{self._what}: get_name() returned {name!r}, a name fit for file names is wanted")
        return name

    def _check_params(self, function: Callable[..., Any], params: dict[str, Any]) -> None:
        known = inspect.signature(function).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            return
        unknown = next((key for key in params if key not in known), None)
        if unknown is not None:
            raise OptionsError(f"--model-params: {self._what} has no parameter '{unknown}': {among(unknown, known)}")


def among(name: str, known: Iterable[str]) -> str:
    """What to do about a parameter of that name, which is none of the known."""
    near = nearest(name, known)
    choice = f"choose among {', '.join(known)}" if known else "it has none: drop it"
    return f"{choice} (did you mean {near[0]}?)" if near else choice


def ready_made() -> list[str]:
    """The names of the models that come with the library."""
    package = importlib.import_module("nnlo.models")
    return sorted(entry.name for entry in pkgutil.iter_modules(package.__path__) if not entry.name.startswith("_"))


def load_model(spec: str | os.PathLike[str]) -> ModelSource:
    """The model that `--model` names: a ready-made one ("mnist") or the path of a .py file. Raises OptionsError."""
    text = os.fspath(spec)
    if text.endswith(".py") or "/" in text or os.sep in text:
        return _from_file(Path(text))
    if text not in ready_made():
        raise OptionsError(
            f"unknown model '{text}': choose one of {', '.join(ready_made())}, or give the path of a .py file (--model)"
        )
    what = f"model '{text}'"
    with user_code(what):
        module = importlib.import_module(f"nnlo.models.{text}")
    return ModelSource(module, text, what)


def _from_file(path: Path) -> ModelSource:
    what = f"model file '{path}'"
    if not path.is_file():
        raise OptionsError(f"{what} is not there: give the path of a .py file, or one of {', '.join(ready_made())}")
    return ModelSource(load_file(path, what), path.stem, what)
