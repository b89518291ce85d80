"""Updates that are inf or nan: refused and counted, without harm to others; some in a row end the job."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from nnlo import Algo, Callback
from nnlo.comm.costs import Costs
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import OptionsError, TrainingError
from tests.golden.test_synchronous import LR, integers, linear, one_process
from tests.jobs import Batches, Rows, Run, cut, same_bits, train_here

BATCH, STEPS = 4, 12


class Steps(Callback):
    """How many steps there were."""

    def __init__(self) -> None:
        self.count = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        self.count += 1


MODES = pytest.mark.parametrize(
    "options", [{}, {"synchronous": True}, {"synchronous": True, "backup_workers": 1}, {"mode": "allreduce"}], ids=str
)


def trained(workers: int, bad: Sequence[int], options: dict[str, Any], batches: int = STEPS, **more: Any) -> Run:
    """Batches of these numbers hold a nan; number k is of worker 1 + k mod `workers`. Rank 2 is slower than others."""
    x, y = integers(BATCH * batches)
    for k in bad:
        x[BATCH * k, 0] = np.nan
    world = VirtualWorld(workers + 1, costs=Costs(compute=lambda peer, count: 1.5 if peer == 2 else 1.0))
    algo = Algo("sgd", lr=LR, loss="mse", fused=False, **options)
    return train_here(world, Batches(cut(x, y, [BATCH] * batches)), algo, linear, **more)


@pytest.mark.parametrize("mode", [{"mode": "downpour", "synchronous": True}, {"mode": "allreduce"}], ids=str)
def test_a_bad_worker_does_not_hurt_the_others(mode: dict[str, Any]) -> None:
    """All of worker 2's gradients are nan: what is left is training on the batches of 1 and 3, to the last bit."""
    run = trained(3, range(1, STEPS, 3), mode, max_bad_updates=2)
    x, y = integers(BATCH * STEPS)
    both = [np.concatenate([np.arange(BATCH * k, BATCH * (k + 1)) for k in (t, t + 2)]) for t in range(0, STEPS, 3)]
    assert same_bits(run.state, one_process([(x[rows], y[rows]) for rows in both]).state_dict())
    ranks = run.last["ranks"]
    assert [ranks[rank]["refused"] for rank in "123"] == [0, 4, 0]
    assert (run.last["refused"], run.last["refused_samples"], run.last["samples"]) == (4, 16, 48)
    assert run.last["late"] == 0 and np.isfinite(run.last["loss"])


@MODES
def test_so_many_in_a_row_end_the_job(options: dict[str, Any]) -> None:
    """All is bad from batch 16 on: four such updates end the job long before its end."""
    steps = Steps()
    with pytest.raises(TrainingError, match=r"^4 updates in a row were inf or nan, the last from rank [12]: lower"):
        trained(2, range(16, 80), options, 80, max_bad_updates=4, callbacks=[steps])
    assert 0 < steps.count <= 16


@MODES
def test_as_many_with_a_good_one_between_them_do_not(options: dict[str, Any]) -> None:
    run = trained(2, range(1, STEPS, 2), options, max_bad_updates=4, val=Rows(*integers(8), 8))
    assert run.history["outcome"] == "done"
    assert len(run.history["validations"]) == 1
    assert run.last["refused"] == run.last["ranks"]["2"]["refused"] == 6


@MODES
def test_one_is_enough_where_that_is_asked_for(options: dict[str, Any]) -> None:
    """A nan in worker 1's third batch ends the job there, whatever the other brings in the same step."""
    steps = Steps()
    with pytest.raises(TrainingError, match=r"^1 updates in a row were inf or nan, the last from rank 1: lower --lr"):
        trained(2, [4], options, 40, max_bad_updates=1, callbacks=[steps])
    assert 0 < steps.count <= 6


@pytest.mark.parametrize(
    ("mode", "options", "flag"),
    [
        ("gem", {}, "--gem-lr"),
        ("easgd", {}, "--elastic-lr"),
        ("easgd", {"worker_optimizer": "adam"}, "--worker-optimizer-params lr=..."),
        ("local", {}, "--worker-optimizer-params lr=..."),
    ],
)
def test_the_line_names_the_modes_own_rate(mode: str, options: dict[str, Any], flag: str) -> None:
    with pytest.raises(TrainingError, match=f"from rank 1: lower {re.escape(flag)}, or look"):
        x, y = integers(BATCH * 4)
        x[:] = np.nan
        algo = Algo(None, mode=mode, loss="mse", **options)
        train_here(VirtualWorld(2), Batches(cut(x, y, [BATCH] * 4)), algo, linear, max_bad_updates=1)


def test_ten_are_the_most_where_nothing_is_said() -> None:
    assert trained(1, range(3, 12), {}, 14).last["refused"] == 9
    with pytest.raises(TrainingError, match=r"^10 updates in a row were inf or nan, the last from rank 1"):
        trained(1, range(3, 13), {}, 14)


@pytest.mark.parametrize("most", [0, -1, 1.5, "3", None])
def test_a_number_of_them_is_at_least_one(most: Any) -> None:
    with pytest.raises(OptionsError) as caught:
        trained(1, [], {}, max_bad_updates=most)
    assert str(caught.value) == f"--max-bad-updates must be a whole number, at least 1, not {most!r}"
