"""How many torch threads a rank gets."""

from __future__ import annotations

import pytest

from nnlo.errors import OptionsError
from nnlo.launcher import SIZE_VARIABLES, check_alone
from nnlo.threads import Place, about_binding, fair_threads

ALL = list(range(4))


@pytest.mark.parametrize(
    ("places", "threads"),
    [
        ([("a", ALL)] * 3, [1, 2, 2]),  # two workers share four cores, the master sleeps
        ([("a", [0, 1])] * 3, [1, 1, 1]),
        ([("a", [0, 1])] * 6, [1] * 6),  # more workers than cores
        ([("a", [2 * r, 2 * r + 1]) for r in range(4)], [1, 2, 2, 2]),  # bound apart: each its own
        ([("a", ALL), ("a", ALL), ("b", ALL), ("b", ALL)], [1, 4, 2, 2]),
        ([("a", ALL), ("a", [0, 1]), ("a", ALL)], [1, 1, 3]),  # half of two cores, all of two others
    ],
)
def test_workers_share_the_cores_that_they_may_use(places: list[Place], threads: list[int]) -> None:
    assert [fair_threads(rank, places) for rank in range(len(places))] == threads


def test_masters_between_head_and_workers_need_no_core() -> None:
    places = [("a", ALL)] * 5
    assert [fair_threads(rank, places, masters=(0, 1, 3)) for rank in range(5)] == [1, 1, 2, 1, 2]


@pytest.mark.parametrize("name", SIZE_VARIABLES)
def test_several_processes_of_which_mpi_sees_one_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in SIZE_VARIABLES:
        monkeypatch.delenv(other, raising=False)
    check_alone()
    monkeypatch.setenv(name, "1")
    check_alone()
    monkeypatch.setenv(name, "3")
    with pytest.raises(OptionsError, match=r"3 processes were started.*--mpi=pmi2"):
        check_alone()


@pytest.mark.parametrize(
    ("places", "cores", "said"),
    [
        ([("a", [0])] * 3, 4, "2 workers on a share 1 of its 4 cores: "),
        ([("a", [0, 1]), ("a", [0, 1]), ("a", [0, 1]), ("a", [1])], 8, "3 workers on a share 2 of its 8 cores: "),
        ([("a", [0, 1])] * 6, 2, None),  # more workers than cores, and they may use all of them
        ([("a", [rank]) for rank in range(4)], 4, None),  # each its own
        ([("a", [0]), ("a", [0]), ("b", [0])], 4, None),  # one worker each
    ],
)
def test_workers_that_are_held_to_too_few_cores_are_told_of(places: list[Place], cores: int, said: str | None) -> None:
    warning = about_binding(0, places, (0,), cores)
    assert warning is None if said is None else warning is not None and warning.startswith(said)
    assert about_binding(1, places, (0,), cores) is None, "one rank a host says it"


def test_the_first_rank_of_every_host_tells() -> None:
    places = [("a", [0, 1]), ("a", [0, 1]), ("b", [3]), ("b", [3])]
    assert about_binding(0, places, (0,), 4) is None
    assert (about_binding(2, places, (0,), 4) or "").startswith("2 workers on b share 1 of its 4 cores")
    assert about_binding(3, places, (0,), 4) is None
