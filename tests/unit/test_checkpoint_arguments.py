"""Options of checkpoints: what each means, and which combinations cannot work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nnlo.errors import OptionsError
from nnlo.training.checkpoint.arguments import CheckpointArguments

BASE = Path("base")


def refusal(**options: Any) -> str:
    """The line with which they are refused."""
    with pytest.raises(OptionsError) as raised:
        CheckpointArguments(**options)
    line = str(raised.value)
    assert line and "\n" not in line
    return line


def test_no_checkpoints_unless_asked_for() -> None:
    plain = CheckpointArguments()
    assert (plain.checkpoint, plain.restore, plain.source, plain.seconds, plain.automatic) == (None,) * 4 + (False,)
    assert (plain.checkpoint_interval, plain.keep, plain.keep_best) == (5, 2, ())


def test_all_together() -> None:
    options = {"checkpoint": "base", "checkpoint_every": "10m", "keep_best": "val_acc, max", "restore": "auto"}
    given = CheckpointArguments.from_keywords(**options)
    assert (given.checkpoint, given.source, given.automatic) == (BASE, BASE, True)
    assert (given.keep_best, given.seconds) == (("val_acc", "max"), 600.0)


@pytest.mark.parametrize(
    ("options", "flag", "told"),
    [
        ({"checkpoint_every": "10m"}, "--checkpoint-every", "is for --checkpoint: name a folder there, or drop it"),
        ({"keep_best": ("val_loss",)}, "--keep-best", "is for --checkpoint: name a folder there, or drop it"),
        ({"keep_best": "val_loss", "restore": "other"}, "--keep-best", "is for --checkpoint"),
        ({"checkpoint_every": "10m", "restore": "other"}, "--checkpoint-every", "is for --checkpoint"),
        ({"checkpoint": BASE, "keep_best": ("val_acc", "max", "min")}, "--keep-best", "'val_acc,max,min'"),
        ({"restore": "auto"}, "--restore auto", "--checkpoint: name that, or a folder here"),
        ({"restore": Path("auto")}, "--restore auto", "--checkpoint: name that, or a folder here"),
        ({"checkpoint": BASE, "checkpoint_interval": 0}, "--checkpoint-interval", "must be at least 1, not 0"),
        ({"checkpoint": BASE, "checkpoint_interval": 1.5}, "--checkpoint-interval", "must be a whole number, not 1.5"),
        ({"checkpoint": BASE, "keep": 0}, "--keep", "must be at least 1, not 0"),
        ({"checkpoint": BASE, "keep": -1}, "--keep", "must be at least 1, not -1"),
        ({"checkpoint": BASE, "keep": True}, "--keep", "must be a whole number, not True"),
        ({"checkpoint": BASE, "checkpoint_every": 90}, "--checkpoint-every", "must be a text, not 90"),
        ({"checkpoint": 3}, "--checkpoint", "must be a path, not 3"),
    ],
)
def test_what_cannot_work_is_refused_by_its_flag(options: dict[str, Any], flag: str, told: str) -> None:
    line = refusal(**options)
    assert line.startswith(f"{flag} ") and told in line


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90.0), ("10m", 600.0), ("2h", 7200.0), ("0.5h", 1800.0), ("0.001s", 0.001), (" 1m ", 60.0), ("007s", 7.0)],
)
def test_times(text: str, seconds: float) -> None:
    assert CheckpointArguments(checkpoint=BASE, checkpoint_every=text).seconds == seconds


@pytest.mark.parametrize(
    "text",
    [
        "10", "0s", "0.0m", "-1m", "x", "", " ", "s", "1d", "10M", ".5h", "5.h", "1e3s", "1m30s", "1 m", "infs", "1,5h",
        "1m\n2",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    line = refusal(checkpoint=BASE, checkpoint_every=text)
    assert line == f"--checkpoint-every {text!r}: give a time, as 90s, 10m or 2h"


@pytest.mark.parametrize(
    ("restore", "checkpoint", "source", "automatic"),
    [
        (None, BASE, None, False),
        ("auto", BASE, BASE, True),
        ("other", BASE, Path("other"), False),
        ("other", None, Path("other"), False),
        ("base", BASE, BASE, False),
        ("./auto", BASE, BASE, True),
        ("folder/auto", BASE, Path("folder/auto"), False),
    ],
)
def test_where_to_restore_from(restore: str | None, checkpoint: Path | None, source: Path, automatic: bool) -> None:
    given = CheckpointArguments.from_keywords(checkpoint=checkpoint, restore=restore)
    assert (given.source, given.automatic) == (source, automatic)


def test_the_record_is_what_was_given() -> None:
    record = CheckpointArguments(checkpoint=BASE, checkpoint_every="10m", restore=Path("auto")).recorded()
    assert record == {
        "checkpoint": "base", "checkpoint_interval": 5, "checkpoint_every": "10m", "keep": 2, "keep_best": [],
        "restore": "auto",
    }  # fmt: skip
