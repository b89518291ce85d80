"""The runner of many bodies in one job: each body gets its own verdict, whatever the others do."""

from __future__ import annotations

import functools

import pytest

from tests.mpi.bodies import HERE, Body, run_bodies

EXPECTED = {
    "body_passes": ("passed", ""),
    "body_raises_on_all": ("failed", "on purpose, rank 1"),
    "body_raises_while_the_other_waits": ("failed", "rank 0: did not come out of it"),
    "body_leaves_a_message": ("failed", "on purpose, unread"),
    "body_hears_nothing_of_it": ("passed", ""),
    "body_waits_for_ever": ("failed", "still running after 4 s"),
    "body_ends_its_process": ("failed", "the job ended in it: exit code 5"),
    "body_skips": ("skipped", "2 ranks are not enough"),
    "body_passes_after_all": ("passed", ""),
}


@functools.cache
def selftest(mpi: str) -> dict[str, dict[str, str]]:
    bodies = [Body(HERE / "bodies_selftest.py", name, 4.0) for name in EXPECTED]
    return {body.name: found for body, found in run_bodies(bodies, mpi, 2).items()}


@pytest.mark.parametrize("name", EXPECTED)
def test_each_body_gets_its_verdict(mpi: str, name: str) -> None:
    outcome, text = EXPECTED[name]
    report = selftest(mpi)[name]
    assert report["outcome"] == outcome, report["text"]
    assert text in report["text"]


def test_traceback_names_the_rank_that_raised(mpi: str) -> None:
    report = selftest(mpi)
    assert "rank 1: Traceback" in report["body_raises_while_the_other_waits"]["text"]
    assert "time.sleep(1000)" in report["body_waits_for_ever"]["text"]
