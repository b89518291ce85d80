"""Files that vanish or break while a training goes on: it stops, or goes on without what they held, and counts that."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nnlo import Algo
from nnlo.comm.costs import Costs
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import DataError, OptionsError
from tests.golden.test_asynchronous import OneHot
from tests.golden.test_restoring import EXACT, algo_of, network, sgd
from tests.jobs import Batch, Rows, Run, labelled, train_here

SAMPLES, BATCH, PART = 96, 8, 24
FILES = [f"{start}:{start + PART}" for start in range(0, SAMPLES, PART)]


class Breaking(Rows):
    """The second file can be read so many times in all."""

    reads = 10**6

    def load_data(self, file: str) -> Batch:
        if file == FILES[1]:
            if type(self).reads <= 0:
                raise DataError(f"{file}: cannot read (No such file or directory)")
            type(self).reads -= 1
        return super().load_data(file)


def data_of(x: Any, y: Any, reads: int) -> Breaking:
    kind = type("Kind", (Breaking,), {"reads": reads})
    return kind(x, y, BATCH)


def learn(options: dict[str, Any], reads: int, size: int = 4, **more: Any) -> Run:
    """A block is a file, so that what is lost is what it held."""
    world = VirtualWorld(size, costs=Costs(compute=1e-3))
    data = data_of(*labelled(SAMPLES), reads)
    return train_here(
        world, data, algo_of(options), network, epochs=3, train_list=FILES, shuffle_buffer=PART,
        **{"on_bad_file": "skip", **more},
    )  # fmt: skip


WAYS = [name for name in EXACT if "adam" not in name]


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_exchange_goes_on_without_it(way: str) -> None:
    size, options = EXACT[way]
    run = learn(options, 2, size)
    skipped = sum(entry["skipped_samples"] for entry in run.history["epochs"])
    assert 0 < skipped <= 3 * PART and skipped % BATCH == 0
    assert sum(entry["skipped"] for entry in run.history["epochs"]) == skipped // BATCH
    assert run.last["samples"] == 3 * SAMPLES, "the clock counts what was skipped"
    assert run.history["outcome"] == "done"
    trained = sum(rank["samples"] for entry in run.history["epochs"] for rank in entry["ranks"].values())
    assert trained == 3 * SAMPLES - skipped


def test_all_the_others_count_once() -> None:
    x = np.arange(SAMPLES, dtype="float64")[:, None]
    data = data_of(x, np.full((SAMPLES, 1), -1000.0), 2)
    algo = Algo("sgd", lr=BATCH, loss="mae", metrics=())
    world = VirtualWorld(3, costs=Costs(compute=1e-3))
    run = train_here(
        world, data, algo, lambda: OneHot(SAMPLES), epochs=3, train_list=FILES, shuffle_buffer=PART, on_bad_file="skip"
    )
    w = run.state["w"]
    others = [*range(PART), *range(2 * PART, SAMPLES)]
    assert w[others].tolist() == [-3.0] * len(others)
    lost = -3.0 - w[PART : 2 * PART]
    assert lost.sum() < 0
    assert lost.sum() == -sum(entry["skipped_samples"] for entry in run.history["epochs"])


def test_a_job_stops_where_nothing_is_said() -> None:
    with pytest.raises(DataError, match="24:48: cannot read"):
        learn(sgd(), 2, on_bad_file="stop")


def test_teams_do_not_skip() -> None:
    with pytest.raises(OptionsError, match="--on-bad-file skip is for workers of one rank: drop it, or --n-processes"):
        learn(sgd(), 6, size=5, num_processes=2)
