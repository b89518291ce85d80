"""The flags of elastic averaging and of gradient energy matching: what they set, and where they are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nnlo.algos import MODES
from nnlo.cli import build
from nnlo.drivers.TrainingDriver import command, make_algo
from nnlo.errors import OptionsError
from nnlo.training.algo import Algo
from nnlo.training.arguments import ModelArguments, TrainingArguments
from tests.driving import prepare_folder, refusal, run_driver

EASGD = {
    "--elastic-force": ("elastic_force", "0.6", 0.6),
    "--elastic-lr": ("elastic_lr", "0.05", 0.05),
    "--elastic-momentum": ("elastic_momentum", "0.99", 0.99),
    "--elastic-order": ("elastic_order", "before", "before"),
    "--worker-optimizer": ("worker_optimizer", "adam", "adam"),
    "--worker-optimizer-params": ("worker_optimizer_params", "lr=0.5", {"lr": 0.5}),
    "--sync-every": ("sync_every", "7", 7),
    "--compress": ("compress", "fp16", "fp16"),
}
GEM = {
    "--gem-lr": ("gem_lr", "0.05", 0.05),
    "--gem-momentum": ("gem_momentum", "0.5", 0.5),
    "--gem-kappa": ("gem_kappa", "1.5", 1.5),
    "--gem-clip": ("gem_clip", "0", 0.0),
    "--gem-variant": ("gem_variant", "code", "code"),
    "--sync-every": ("sync_every", "7", 7),
}
ALL = [("easgd", flag, *case) for flag, case in EASGD.items()] + [("gem", flag, *case) for flag, case in GEM.items()]


def others(flag: str) -> list[str]:
    """The modes that do not read it."""
    name = flag.removeprefix("--").replace("-", "_")
    return [mode for mode in ("downpour", "easgd", "gem") if name not in MODES[mode].options.__dataclass_fields__]


def algo(*argv: str) -> Algo:
    layers = (command().parse(argv),)
    return make_algo(build(ModelArguments, *layers), build(TrainingArguments, *layers), layers)


@pytest.mark.parametrize(("mode", "flag", "name", "text", "value"), ALL)
def test_a_flag_is_read(mode: str, flag: str, name: str, text: str, value: Any) -> None:
    found = algo("--mode", mode, flag, text)
    assert getattr(found.mode_options, name) == value != getattr(MODES[mode].options(), name)
    assert found.recorded()[name] == value


def test_the_force_of_the_command_line_is_shared_by_the_workers() -> None:
    options = algo("--mode", "easgd", "--elastic-force", "0.6").mode_options
    assert options.alpha(3) == pytest.approx(0.2)  # type: ignore[attr-defined]


def test_synchronous_and_order_are_what_the_roles_read() -> None:
    found = algo("--mode", "easgd", "--synchronous", "--sync-every", "4").algorithm
    assert (found.synchronous, found.sync_every) == (True, 4)


@pytest.mark.parametrize(
    ("flag", "text", "mode"),
    [(flag, text, other) for mode, flag, _, text, _ in ALL for other in others(flag)],
)
def test_a_flag_of_another_mode_is_refused(flag: str, text: str, mode: str) -> None:
    with pytest.raises(OptionsError, match=f"{flag} is not read by --mode {mode}, but by "):
        algo("--mode", mode, flag, text)


LR_MODES = "allreduce, choco, dinno, downpour, dsgd, dsgt, sign, vote"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            "easgd --elastic-lr 0.1 --worker-optimizer adam",
            "--elastic-lr is for --worker-optimizer sgd, not adam: give",
        ),
        (
            "easgd --elastic-momentum 0.1 --worker-optimizer nesterov",
            "--elastic-momentum is for --worker-optimizer sgd",
        ),
        ("easgd --elastic-lr 0.1 --worker-optimizer-params lr=1", "lr and --elastic-lr set the same: drop one"),
        ("easgd --elastic-force -1", "--elastic-force must be at least 0, not -1"),
        ("easgd --elastic-momentum 1", "--elastic-momentum must be below 1"),
        ("easgd --elastic-alpha 0.1", "unknown option --elastic-alpha"),
        ("easgd --error-feedback --compress fp16", "--error-feedback: --mode easgd"),
        (
            "easgd --lr 0.1",
            f"--lr is not read by --mode easgd, but by {LR_MODES}: give --elastic-lr, or drop it",
        ),
        (
            "gem --clip-norm 1",
            f"--clip-norm is not read by --mode gem, but by {LR_MODES}: drop it",
        ),
        ("gem --synchronous", "--synchronous is not read by --mode gem"),
        ("gem --compress fp16", "--compress is not read by --mode gem"),
        ("gem --worker-optimizer adam", "--worker-optimizer is not read by --mode gem"),
        ("gem --gem-momentum 1", "--gem-momentum must be below 1"),
        ("gem --gem-variant book", "--gem-variant: unknown value 'book'"),
    ],
)
def test_bad_flags_are_refused_in_one_line(argv: str, message: str) -> None:
    with pytest.raises(OptionsError, match=message) as refused:
        algo("--mode", *argv.split())
    assert "\n" not in str(refused.value)


def test_a_field_that_is_no_flag_is_neither_in_the_help_nor_in_files() -> None:
    assert "--elastic-alpha" not in command().parser.format_help()
    with pytest.raises(OptionsError, match="unknown option 'elastic_alpha'"):
        command().checked({"elastic_alpha": 0.1})


@pytest.mark.parametrize(
    ("argv", "rate"),
    [
        ("--mode easgd --elastic-force 0.5 --elastic-lr 0.2 --elastic-momentum 0.5 --sync-every 2", 0.2),
        ("--mode easgd --worker-optimizer adam --worker-optimizer-params lr=0.02 --compress fp16", 0.02),
        ("--mode gem --gem-lr 0.03", 0.03),
    ],
)
def test_a_training(argv: str, rate: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_folder(tmp_path, monkeypatch)
    history = run_driver(*argv.split(), "--epochs", "2", "--schedule", "step", "--schedule-params", "every=1,by=0.5")
    assert history["arguments"]["mode"] == argv.split()[1]
    assert [entry["lr"] for entry in history["epochs"]] == pytest.approx([rate, rate / 2])
    assert history["epochs"][1]["loss"] < history["epochs"][0]["loss"]


def test_wrong_flags_end_in_one_line_and_a_large_force_in_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare_folder(tmp_path, monkeypatch)
    said = refusal(capsys)("--mode", "easgd", "--elastic-lr", "0.1", "--worker-optimizer", "adam")
    assert said.startswith("--elastic-lr is for --worker-optimizer sgd, not adam")
    run_driver("--mode", "easgd", "--elastic-force", "1.25", "--epochs", "1")
    err = capsys.readouterr().err
    assert err.count("warning: --elastic-force 1.25 (alpha 1.25) with 1 worker: the weights do not settle at 1") == 1
