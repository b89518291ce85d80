"""What a search shows while it runs, on a terminal and elsewhere."""

from __future__ import annotations

import io
import math

import pytest

from nnlo.optimize.progress import Counts, SearchProgress, duration


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(*calls: tuple[float, Counts], trials: int = 40, before: int = 0) -> list[str]:
    """The lines after calls so many seconds from the beginning."""
    clock, stream = Clock(), io.StringIO()
    progress = SearchProgress(trials, before, stream, clock)
    for seconds, counts in calls:
        clock.now = 100.0 + seconds
        progress.show(counts)
    progress.close()
    return stream.getvalue().splitlines()


def test_a_line_says_how_many_trials_did_what() -> None:
    """12 of 40 in 85.7 s: the other 28 take 200 s."""
    (line,) = shown((200 / 28 * 12, Counts(12, 2, 3, 1, (7, 0.0312))))
    assert line == "12/40 trials  best 0.0312 (#7)  running 2  pruned 3  failed 1  ETA 0:03:20"


def test_before_the_first_trial_has_ended_nothing_is_known() -> None:
    assert shown((60, Counts(0, 3))) == ["0/40 trials  running 3  pruned 0  failed 0  ETA ?"]


@pytest.mark.parametrize(
    ("ended", "seconds", "left"), [(1, 10, 390), (20, 1000, 1000), (39, 78, 2), (5, 36000, 252000)]
)
def test_the_time_left_is_that_of_the_trials_left_at_the_pace_until_now(ended: int, seconds: int, left: int) -> None:
    assert left == seconds / ended * (40 - ended)
    (line,) = shown((seconds, Counts(ended, 1)))
    days, rest = divmod(left, 86400)
    text = f"{rest // 3600}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    assert line.endswith(f"ETA {days} days, {text}" if days else f"ETA {text}")


def test_a_search_that_goes_on_is_not_credited_with_what_was_done_before() -> None:
    lines = shown((10, Counts(30, 2)), (20, Counts(32, 2)), before=30)
    assert [line.split("ETA ")[1] for line in lines] == ["?", "0:01:20"]


def test_at_the_end_it_says_how_long_it_took() -> None:
    assert shown((302, Counts(40, 0, 9, 1, (31, 0.0287))))[0].endswith("failed 1  in 0:05:02")


def test_lines_come_when_something_happened_and_not_too_often() -> None:
    """At once; not 1 s later; after 6 s what is new since; not what is known; at last the end, at any time."""
    ends = [(0, 0), (1, 1), (6, 1), (30, 1), (31, 2), (32, 3), (32.5, 40)]
    lines = shown(*((seconds, Counts(ended, 1)) for seconds, ended in ends))
    assert [line.split("/")[0] for line in lines] == ["0", "1", "2", "40"]


def test_what_is_new_is_more_than_the_number_of_those_ended() -> None:
    lines = shown((0, Counts(1, 2)), (10, Counts(1, 3)), (20, Counts(1, 3, best=(0, 0.5))))
    assert len(lines) == 3


def test_plain_output_has_no_control_characters() -> None:
    assert all(line.isprintable() and line.isascii() for line in shown((1, Counts(1, 1)), (9, Counts(2, 1))))


def test_a_terminal_has_a_bar_and_a_line_that_stays() -> None:
    clock, stream = Clock(), Terminal()
    progress = SearchProgress(40, stream=stream, clock=clock)
    for ended in (10, 20):
        clock.now += 100
        progress.show(Counts(ended, 4, best=(3, 0.25)))
    before = stream.getvalue()
    progress.close()
    progress.close()
    assert "10/40 trials  25% |" in before and "20/40 trials  50% |" in before and "ETA 0:03:20" in before
    stays = "20/40 trials  best 0.2500 (#3)  running 4  pruned 0  failed 0  ETA 0:03:20\n"
    assert stays not in before and stream.getvalue().count(stays) == 1
    assert stream.getvalue().split("\r")[-1].strip() == "" and stream.getvalue().count("\n") == 1  # the bar is gone


def test_figures_are_as_in_a_training() -> None:
    lines = [shown((1, Counts(1, 0, best=(0, value))))[0] for value in (1.2e-5, 123.456, -2.0, math.inf)]
    assert [line.split("best ")[1].split(" (")[0] for line in lines] == ["1.2e-05", "123.46", "-2.0000", "inf"]


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3723, "1:02:03")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
