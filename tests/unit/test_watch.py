"""Who is still there: the lost are told of once, and where nobody outlives another a rank does not wait for ever."""

from __future__ import annotations

import os

import pytest

from nnlo.comm.motion import Motion, MpiRequest
from nnlo.comm.watch import GRACE, INTERVAL, Watch
from nnlo.errors import LauncherLost, Stranded


class Known:
    """What an MPI that survives knows."""

    error = ValueError

    def __init__(self) -> None:
        self.dead: list[int] = []
        self.asked = 0

    def found(self) -> list[int]:
        self.asked += 1
        return self.dead


class Clock:
    """Moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_each_lost_rank_is_told_of_once(clock: Clock) -> None:
    known, told = Known(), list[int]()
    watch = Watch(known, told.append)
    watch.check()
    known.dead = [3, 5]
    watch.check()
    assert told == [] and known.asked == 1, "MPI is not asked all the time"
    clock.now += INTERVAL
    watch.check()
    watch.ended(5)
    watch.ended(7)
    assert told == [3, 5, 7] and watch.lost == {3, 5, 7}
    assert not watch.look()
    known.dead = [3, 5, 8]
    assert watch.look() and told[-1] == 8


def test_where_nobody_outlives_another_the_launcher_has_some_seconds(clock: Clock) -> None:
    told: list[int] = []
    watch = Watch(None, told.append)
    watch.ended(2)
    clock.now += GRACE - 1
    watch.check()
    clock.now += 2
    with pytest.raises(Stranded, match="rank 2 is lost: its process has ended"):
        watch.check()
    assert told == [] and watch.errors == ()


def test_a_rank_whose_launcher_is_gone_ends(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(None, print)
    watch.check()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    watch.check()
    clock.now += INTERVAL
    with pytest.raises(LauncherLost, match="launcher"):
        watch.check()


class Failed:
    """A request to a rank that has died: it fails once, and is over then."""

    def __init__(self) -> None:
        self.failed = False

    def Testsome(self, requests: list[Failed]) -> None:
        raise ValueError

    def Test(self) -> bool:
        if not self.failed:
            self.failed = True
            raise ValueError
        return True


class Comm:
    size = 2


@pytest.mark.parametrize("known", [[], [1]])
def test_what_fails_for_one_who_is_known_to_be_lost_is_over(known: list[int]) -> None:
    failures = Known()
    motion = Motion(None, Comm(), failures)
    failures.dead = known
    motion.watch.look()
    message = motion.begin(MpiRequest(Failed()))
    if not known:
        with pytest.raises(ValueError):
            motion.progress()
        return
    motion.progress()
    assert not message.ready
    motion.progress()
    assert message.ready and motion.requests == []
