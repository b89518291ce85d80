"""What a training shows, on a terminal and elsewhere."""

from __future__ import annotations

import fcntl
import io
import math
import os
import pty
import struct
import termios
import time

import pytest

from nnlo.training.progress import Progress, duration, figure, has_width, rate_text


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def entry(epoch: int, **more: float) -> dict:
    rest = {"staleness": {"mean": 1.5, "max": 2, "histogram": [0, 1, 1]}, "samples_per_second": 1000.0, "ranks": {}}
    return {"epoch": epoch, "seconds": 1.0, "samples": 0, "updates": 1, "loss": 0.5, "acc": 0.75, **rest, **more}


def train(progress: Progress, clock: Clock, seconds: float = 0.125, updates: int = 200, epochs: int = 2) -> None:
    """Updates of 100 samples, 20,000 samples an epoch, `seconds` apart."""
    progress.on_train_begin({})
    for update in range(updates * epochs):
        clock.now += seconds
        samples = (update + 1) * 100
        progress.on_train_batch_end(
            update, {"samples": samples, "epoch": samples / 20_000, "staleness": update % 2, "loss": 0.25, "acc": 0.5}
        )
        if (update + 1) % updates == 0:
            progress.on_epoch_end(update // updates, entry(update // updates + 1, val_loss=0.125, val_acc=0.9))
    progress.on_train_end({})


def shown(seconds: float = 0.125) -> list[str]:
    clock, stream = Clock(), io.StringIO()
    train(Progress(2, 20_000, stream, clock), clock, seconds)
    return stream.getvalue().splitlines()


def test_plain_lines_come_every_few_seconds_and_once_an_epoch() -> None:
    """50 s: after 5, 10, ... 25 s and the end of the epoch, from which the next five seconds count."""
    lines = shown()
    assert len(lines) == 2 + 10
    assert lines[1] == "epoch 1/2   40%  loss 0.2500  acc 0.5000  staleness 0.5    800/s  ETA  0:40"
    assert [line for line in lines if "done" in line] == [
        "epoch 1/2  done  loss 0.5000  acc 0.7500  staleness 1.5   1.0k/s  ETA  0:25  val_loss 0.1250  val_acc 0.9000",
        "epoch 2/2  done  loss 0.5000  acc 0.7500  staleness 1.5   1.0k/s  in   0:50  val_loss 0.1250  val_acc 0.9000",
    ]


def test_short_epochs_have_one_line_each_and_know_how_long_the_others_take() -> None:
    clock, stream = Clock(), io.StringIO()
    train(Progress(4, 20_000, stream, clock), clock, seconds=2**-7, epochs=4)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4 and all("done" in line for line in lines)
    assert [line.split()[-5] for line in lines] == ["1:00", "0:40", "0:20", "0:06"]


def test_columns_stand_below_one_another() -> None:
    assert {line.index("ETA") for line in shown() if "ETA" in line} == {shown()[-1].index("in  ")}


def test_plain_output_has_no_control_characters() -> None:
    assert all(line.isprintable() and line.isascii() for line in shown())


def test_without_validation_a_line_ends_with_the_time() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(3, 100, stream, clock)
    progress.on_train_begin({})
    progress.on_epoch_end(0, entry(1))
    assert stream.getvalue().rstrip().endswith("ETA  0:00")


def test_a_run_that_goes_on_from_a_checkpoint_is_not_credited_with_what_was_done_before() -> None:
    clock, stream = Clock(), io.StringIO()
    progress = Progress(2, 20_000, stream, clock)
    progress.on_train_begin({})
    for update in range(60):
        clock.now += 0.1
        progress.on_train_batch_end(update, {"samples": 30_000 + update * 100, "staleness": 0, "loss": 1.0})
    assert stream.getvalue().split("/s")[0].split()[-1] == "1.0k"


def test_a_terminal_has_a_bar_and_lines_that_stay() -> None:
    clock, stream = Clock(), Terminal()
    train(Progress(2, 20_000, stream, clock), clock)
    text = stream.getvalue()
    assert text.count("done") == 2
    assert "\r" in text and " 50% |" in text and "ETA  0:25" in text
    assert text.count("\r") < 500


def test_an_update_is_cheap_between_lines() -> None:
    progress = Progress(2, 10**9, io.StringIO())
    logs = {"samples": 100, "epoch": 0.0, "staleness": 1, "loss": 0.5, "acc": 0.5}
    progress.on_train_begin({})
    best = math.inf
    for _ in range(20):
        began = time.perf_counter()
        for update in range(1000):
            progress.on_train_batch_end(update, logs)
        best = min(best, time.perf_counter() - began)
    assert best / 1000 < 10e-6


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0000"),
        (0.12346, "0.1235"),
        (-2.5, "-2.5000"),
        (1.2e-5, "1.2e-05"),
        (12.3456, "12.346"),
        (123456.0, "1.2e+05"),
        (math.nan, "nan"),
        (math.inf, "inf"),
    ],
)
def test_figures(value: float, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(math.nan, "    ?"), (3.21, "  3.2"), (999.9, " 1000"), (21_380, "21.4k"), (2.5e6, " 2.5M")]
)
def test_rates_are_as_wide(rate: float, text: str) -> None:
    assert rate_text(rate) == f"{text}/s"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (65, "1:05"), (7384, "2:03:04"), (math.nan, "?")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_line_of_the_next_epoch_waits_for_the_end_of_this_one() -> None:
    """Validation runs aside, so that updates of the next epoch come before this one's entry."""
    clock, stream = Clock(), io.StringIO()
    progress = Progress(2, 1000, stream, clock)
    progress.on_train_begin({})
    for update in range(150):
        clock.now += 0.1
        progress.on_train_batch_end(update, {"samples": 10 * (update + 1), "staleness": 0, "loss": 1.0})
        if update == 140:
            progress.on_epoch_end(0, entry(1))
    lines = stream.getvalue().splitlines()
    assert len(lines) > 1 and {line.split()[1] for line in lines} == {"1/2"}
    assert "done" in lines[-1]


def test_a_terminal_without_columns_gets_lines() -> None:
    """Some CI systems have such: tqdm would draw nothing at all."""
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as stream:
        for columns, wide in ((0, False), (80, True)):
            fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            assert has_width(stream) is wide
    os.close(leader)
