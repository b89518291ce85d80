"""--compress and --error-feedback on the command line: each changes what comes out, and wrong ones are one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.driving import prepare_folder, refusal, run_driver

SGD = ["--optimizer", "sgd", "--lr", "0.5", "--epochs", "2", "--seed", "3"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_folder(tmp_path, monkeypatch)


def test_codec_and_feedback_change_what_comes_out() -> None:
    """Six updates an epoch, of 56 numbers in four tensors: a header, two sums, and 14 bytes for 6 numbers or 23."""
    flags = ([], ["--compress", "topk:ratio=0.1"], ["--compress", "topk:ratio=0.1", "--no-error-feedback"])
    entries = [run_driver(*SGD, *more)["epochs"][-1] for more in flags]
    words = {entry["bytes_up"] - 6 * (64 + 64 + part) for entry, part in zip(entries, (256, 64, 64), strict=True)}
    assert len(words) == 1 and words <= {0, 64, 128}  # who is ready
    assert len({entry["loss"] for entry in entries}) == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--compress bins:bits=17", "--compress bins:bits=17: bits must be at most 16, not 17"),
        ("--compress bins:bits=0", "--compress bins:bits=0: bits must be at least 1, not 0"),
        ("--compress topk:ratio=1.5", "--compress topk:ratio=1.5: ratio must be at most 1, not 1.5"),
        (
            "--mode allreduce --compress powersgd:rank=5",
            "--compress powersgd: rank 5 is too large for '1.weight' of shape 4 x 8: the largest is rank=4",
        ),
        (
            "--compress powersgd:rank=1",
            "--compress powersgd: its updates are summed on their way, as with --mode allreduce: choose another codec",
        ),
        ("--error-feedback", "--error-feedback has no effect without --compress: name a codec, or drop it"),
    ],
)
def test_what_makes_no_sense_is_one_line(flags: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys)(*SGD, *flags.split()) == message
