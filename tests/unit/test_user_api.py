"""The names, parameters and defaults that programs of users are written against."""

from __future__ import annotations

import inspect

import pytest

import nnlo

REQUIRED = inspect.Parameter.empty
BUILDING = {"comm": REQUIRED, "data": REQUIRED, "algo": REQUIRED, "model_builder": REQUIRED, "num_epochs": REQUIRED}
LISTS = {"train_list": REQUIRED, "val_list": REQUIRED, "num_masters": 1, "num_processes": 1}
CACHE = {"cache": None, "copy_command": None}
COLUMNS = {"features_name": "features", "labels_name": "labels", "preloading": 0}

POSITIONAL = {
    "MPIManager": {**BUILDING, **LISTS},
    "Algo": {"optimizer": "sgd"},
    "ModelBuilder": {"comm": None},
    "ModelPytorch": {"comm": REQUIRED, "source": REQUIRED, "weights": None},
    "Data": {"batch_size": REQUIRED, **CACHE},
    "H5Data": {"batch_size": REQUIRED, **COLUMNS, **CACHE},
    "Callback": {},
}
"""{class: its positional parameters, in their order, with their defaults}."""

BY_NAME = {
    "MPIManager": {
        **{"callbacks": (), "early_stopping": None, "target_metric": None, "seed": 0, "schedule": None, "output": "."},
        **{"trial_name": None, "val_data": None, "verbose": False},
    },
    "Algo": {
        **{"mode": "downpour", "loss": "categorical_crossentropy", "metrics": None, "validate_every": None},
    },
}
"""{class: parameters that are given by name, perhaps among others, with their defaults}."""

METHODS = {
    "MPIManager": {"train": [], "close": [], "figure_of_merit": [], "record_details": ["json_name"]},
    "ModelBuilder": {"build_model": []},
    "Data": {"load_data": ["file"], "count_data": [], "generate_data": []},
    "Callback": {
        **{"on_train_begin": ["logs"], "on_train_end": ["logs"], "on_test_begin": ["logs"], "on_test_end": ["logs"]},
        **{"on_epoch_begin": ["epoch", "logs"], "on_epoch_end": ["epoch", "logs"]},
        **{"on_train_batch_end": ["batch", "logs"]},
    },
}


def parameters(function: object, *kinds: object) -> dict[str, object]:
    """{name: default} of those kinds, in their order."""
    found = inspect.signature(function).parameters.values()
    return {one.name: one.default for one in found if one.kind in kinds}


def test_the_public_names_are_there() -> None:
    assert {*POSITIONAL, "__version__"} <= set(nnlo.__all__)


@pytest.mark.parametrize("name", POSITIONAL)
def test_positional_parameters_keep_their_order(name: str) -> None:
    found = parameters(getattr(nnlo, name), inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert list(found.items()) == list(POSITIONAL[name].items())


@pytest.mark.parametrize("name", BY_NAME)
def test_parameters_by_name_keep_their_names_and_defaults(name: str) -> None:
    found = parameters(getattr(nnlo, name), inspect.Parameter.KEYWORD_ONLY)
    assert found | BY_NAME[name] == found


@pytest.mark.parametrize("name", METHODS)
def test_methods_keep_their_names_and_parameters(name: str) -> None:
    for method, wanted in METHODS[name].items():
        taken = parameters(getattr(getattr(nnlo, name), method), inspect.Parameter.POSITIONAL_OR_KEYWORD)
        assert list(taken) == ["self", *wanted], method


def test_a_mode_is_told_its_options_by_name() -> None:
    given = {"sync_every": 1, "synchronous": False}
    assert nnlo.Algo("sgd", **given).recorded().items() >= given.items() <= nnlo.Algo("sgd").recorded().items()


def test_what_data_and_callbacks_find_in_themselves() -> None:
    data = nnlo.Data(8)
    assert (data.batch_size, data.worker, data.num_workers, data.shards_itself) == (8, 0, 1, False)
    assert list(data.file_names) == []
    assert nnlo.Callback().manager is None


def test_what_a_manager_holds() -> None:
    manager = nnlo.MPIManager(None, nnlo.Data(8), nnlo.Algo(), nnlo.ModelBuilder(), 1, [], None, output=None)
    assert (manager.model, manager.stop_training) == (None, False)
