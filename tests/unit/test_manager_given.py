"""What user code gives a manager is looked at when it is made."""

from __future__ import annotations

import re
from typing import Any

import pytest
from torch import nn

from nnlo import Algo, Callback, H5Data, MPIManager
from nnlo.comm.virtual import VirtualWorld
from nnlo.data.h5 import Column
from nnlo.errors import OptionsError
from tests.jobs import Built, Rows, labelled


def builder() -> Built:
    return Built(lambda: nn.Linear(8, 4))


def made(*more: Any, **given: Any) -> MPIManager:
    own = {"data": Rows(*labelled(40), 8), "algo": Algo("sgd"), "model_builder": builder()} | given
    first = [None, own.pop("data"), own.pop("algo"), own.pop("model_builder"), 1, ["all"], None]
    return MPIManager(*first, *more, output=None, **own)


def test_an_optimizer_that_the_mode_does_not_read_is_refused() -> None:
    with pytest.raises(OptionsError, match="--optimizer adam is not read by --mode easgd: drop it"):
        Algo("adam", mode="easgd")
    assert Algo(mode="easgd").optimizer is None and Algo(None, mode="easgd").optimizer is None


def test_one_master_and_one_process_a_worker_go_in_one_process() -> None:
    for manager in (made(1, 1), made(num_masters=1, num_processes=1)):
        assert manager.train() is not None


def on(size: int, algo: Algo, masters: int, processes: int, **given: Any) -> MPIManager:
    own = [VirtualWorld(size), Rows(*labelled(40), 8), algo, builder(), 1, ["all"], None, masters, processes]
    return MPIManager(*own, output=None, **given)


@pytest.mark.parametrize(("size", "masters", "processes"), [(7, 3, 1), (7, 3, 2), (5, 1, 2), (4, 2, 1)])
def test_ranks_that_divide_train(size: int, masters: int, processes: int) -> None:
    history = on(size, Algo("sgd"), masters, processes).train()
    assert history is not None and history["epochs"][0]["samples"] == 40
    assert (history["arguments"]["n_masters"], history["arguments"]["n_processes"]) == (masters, processes)
    assert history["arguments"]["team_backend"] == "mpi"


@pytest.mark.parametrize(
    ("size", "algo", "masters", "processes", "said"),
    [
        (6, Algo("sgd"), 3, 1, "--n-masters 3 --n-processes 1: 6 ranks do not divide into a head and 2 masters with "
         "equal numbers of workers: start 5 or 7 (every 2 more will do)"),
        (6, Algo("sgd"), 1, 2, "--n-masters 1 --n-processes 2: 6 ranks do not divide into a master and workers of 2 "
         "ranks each: start 5 or 7 (every 2 more will do)"),
        (1, Algo("sgd"), 1, 1, "1 rank does not divide into a master and workers: start 2 or 3"),
        (5, Algo("sgd", mode="allreduce"), 3, 1, "--n-masters 3: the workers of --mode allreduce exchange among "
         "themselves: drop it"),
        (5, Algo("sgd", mode="sign", exchange="collective"), 3, 1, "--n-masters 3: the workers of --mode sign"),
        (7, Algo("sgd", synchronous=True, backup_workers=1), 3, 1, "--n-masters 3 with --backup-workers 1: a master "
         "waits for its 2 workers: give at least so many, or drop one"),
    ],
)  # fmt: skip
def test_ranks_that_do_not_divide_are_refused(size: int, algo: Algo, masters: int, processes: int, said: str) -> None:
    with pytest.raises(OptionsError, match=re.escape(said)):
        on(size, algo, masters, processes)


@pytest.mark.parametrize(
    ("processes", "backend", "said"),
    [
        (2, "smoke", "--team-backend: unknown value 'smoke': choose one of mpi, gloo, nccl"),
        (1, "gloo", "--team-backend gloo has no effect with --n-processes 1: drop it"),
        (2, "gloo", "--team-backend gloo is for ranks in processes of their own: drop it here"),
    ],
)
def test_backends_that_cannot_work_are_refused(processes: int, backend: str, said: str) -> None:
    with pytest.raises(OptionsError, match=re.escape(said)):
        on(5, Algo("sgd"), 1, processes, team_backend=backend)


@pytest.mark.parametrize(
    ("more", "given", "said"),
    [
        ((2,), {}, "--n-masters 2 --n-processes 1: this is one process, and that takes 3 or more: start mpirun -np 3"),
        (
            (1, 4),
            {},
            "--n-masters 1 --n-processes 4: this is one process, and that takes 5 or more: start mpirun -np 5",
        ),
        ((), {"num_masters": 0}, "--n-masters must be a whole number, at least 1, not 0"),
        ((), {"num_processes": "2"}, "--n-processes must be a whole number, at least 1, not '2'"),
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
