"""The command that trains a trial again, by itself."""

from __future__ import annotations

import json
import shlex
import typing
from collections.abc import Collection, Mapping
from typing import Any

from nnlo.algos import MODES
from nnlo.errors import OptionsError
from nnlo.optimize.trial import Parameters
from nnlo.options import Options, flag_of, parse_params, plain_type
from nnlo.training.arguments import (
    DataArguments,
    ModelArguments,
    OptimizerArguments,
    ScheduleArguments,
    TrainingArguments,
)

PROG = "TrainingDriver"
MODEL_PARAMS = "model_params"


def command_of(parameters: Parameters, arguments: Mapping[str, Any], names_of_model: Collection[str]) -> str:
    """The TrainingDriver's command line for a trial, quoted for a shell.

    arguments: the options of training that the search was given, by their names, as they were typed or as they were
    understood. The `parameters` that are in `names_of_model` go to the model; each other one is an option of training.
    Parameters win over arguments.
    """
    options = {name.replace("-", "_"): value for name, value in arguments.items()}
    options |= {name: value for name, value in parameters.items() if name not in names_of_model}
    of_model = {name: value for name, value in parameters.items() if name in names_of_model}
    if of_model:
        given = options.get(MODEL_PARAMS) or {}
        options[MODEL_PARAMS] = {**(parse_params(given) if isinstance(given, str) else given), **of_model}
    return shlex.join([PROG, *(word for name, value in options.items() for word in words(name, value))])


def words(name: str, value: Any) -> list[str]:
    """An option on the command line; nothing for a text that is None, which is what it is without its flag."""
    if isinstance(value, bool):
        return [flag_of(name if value else f"no_{name}")]
    if value is None and not takes_none(name):
        return []
    text = text_of(value)
    return [f"{flag_of(name)}={text}"] if text.startswith("-") else [flag_of(name), text]


def takes_none(name: str) -> bool:
    """Whether the word none makes None of that option, which without its flag may be what the model brings."""
    modes: list[type[Options]] = [MODES[mode].options for mode in MODES]
    sections = [DataArguments, ModelArguments, OptimizerArguments, ScheduleArguments, TrainingArguments, *modes]
    hints = [hint for section in sections if (hint := typing.get_type_hints(section).get(name)) is not None]
    return any(optional and kind is not str for kind, optional in map(plain_type, hints))


def text_of(value: Any) -> str:
    if isinstance(value, Mapping):
        return params_text(value)
    if isinstance(value, (list, tuple)):
        return ",".join(value)
    return "none" if value is None else str(value)


def params_text(params: Mapping[str, Any]) -> str:
    """key=value,key=value where that is read as the same values, else a JSON object."""
    exact = json.dumps(dict(params), ensure_ascii=False)
    pairs = ",".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in params.items())
    try:
        return pairs if parse_params(pairs) == params else exact
    except OptionsError:
        return exact
