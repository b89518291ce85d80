"""What user code gives a manager is looked at when it is made."""

from __future__ import annotations

import re
from typing import Any

import pytest
from torch import nn

from nnlo import Algo, Callback, H5Data, MPIManager
from nnlo.data.h5 import Column
from nnlo.errors import OptionsError
from tests.jobs import Built, Rows, labelled


def builder() -> Built:
    return Built(lambda: nn.Linear(8, 4))


def made(*more: Any, **given: Any) -> MPIManager:
    own = {"data": Rows(*labelled(40), 8), "algo": Algo("sgd"), "model_builder": builder()} | given
    first = [None, own.pop("data"), own.pop("algo"), own.pop("model_builder"), 1, ["all"], None]
    return MPIManager(*first, *more, output=None, **own)


def test_one_master_and_one_process_a_worker_are_what_there_is() -> None:
    for manager in (made(1, 1), made(num_masters=1, num_processes=1)):
        assert manager.train() is not None


@pytest.mark.parametrize(
    ("more", "given", "said"),
    [
        ((2,), {}, "--num-masters 2: several masters are not there yet: 1 is the only value that works now"),
        ((1, 4), {}, "--num-processes 4: workers of several processes are not there yet: 1 is the only value"),
        ((), {"num_masters": 0}, "--num-masters 0: several masters are not there yet"),
        ((), {"num_processes": "2"}, "--num-processes 2: workers of several processes are not there yet"),
        ((), {"seed": -1}, "--seed must be a whole number, at least 0, not -1"),
        ((), {"seed": "x"}, "--seed must be a whole number, at least 0, not 'x'"),
        ((), {"seed": True}, "--seed must be a whole number, at least 0, not True"),
        ((), {"data": Rows}, "data must be a nnlo.Data, not the class Rows"),
        ((), {"val_data": ["all"]}, "val_data must be a nnlo.Data, not list"),
        ((), {"algo": "adam"}, "algo must be a nnlo.Algo, not str"),
        ((), {"model_builder": nn.Linear(8, 4)}, "model_builder must be a nnlo.ModelBuilder, not Linear"),
        ((), {"model_builder": Built}, "model_builder must be a nnlo.ModelBuilder, not the class Built"),
        ((), {"callbacks": Callback()}, "callbacks must be a list: give [Callback()]"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(more: tuple[Any, ...], given: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionsError, match=re.escape(said)) as caught:
        made(*more, **given)
    assert "\n" not in str(caught.value)


def test_one_metric_is_a_list_too() -> None:
    with pytest.raises(OptionsError, match=re.escape("metrics must be a list of names: give ['acc']")):
        Algo("sgd", metrics="acc")


@pytest.mark.parametrize("name", [3, ("kind",), ("kind", 3), (len, "kind"), None])
def test_a_dataset_is_a_name_perhaps_with_a_function(name: Any) -> None:
    for which, flag in (("features_name", "--features-name"), ("labels_name", "--labels-name")):
        with pytest.raises(OptionsError, match=rf'^{flag}: give a name, or \("name", function\), not '):
            H5Data(8, **{which: name})
    assert Column.of(("kind", len), "--features-name") == Column("kind", len, "--features-name")
