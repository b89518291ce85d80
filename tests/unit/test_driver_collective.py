"""The flags of modes local and allreduce: what they set, and where they are refused."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from nnlo.algos import MODES
from nnlo.cli import build
from nnlo.comm.virtual import VirtualWorld
from nnlo.drivers.TrainingDriver import command, make_algo, make_schedule
from nnlo.errors import OptionsError
from nnlo.training.algo import Algo
from nnlo.training.arguments import ModelArguments, TrainingArguments
from tests.jobs import Rows, labelled, train_here


def algo(*argv: str) -> Algo:
    layers = (command().parse(argv),)
    return make_algo(build(ModelArguments, *layers), build(TrainingArguments, *layers), layers)


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("local --sync-every 7", "sync_every", 7),
        ("local --outer-lr 0.7", "outer_lr", 0.7),
        ("local --outer-momentum 0.9", "outer_momentum", 0.9),
        ("local --outer-momentum 0.9 --nesterov-outer", "nesterov_outer", True),
        ("local --sync-every 2 --post-local-from 5", "post_local_from", 5),
        ("local --worker-optimizer adamw", "worker_optimizer", "adamw"),
        ("local --worker-optimizer-params lr=0.5", "worker_optimizer_params", {"lr": 0.5}),
        ("local --compress bf16", "compress", "bf16"),
        ("local --compress bf16 --error-feedback", "error_feedback", True),
        ("allreduce --bucket-mib 4", "bucket_mib", 4.0),
        ("allreduce --sync-every 7", "sync_every", 7),
        ("allreduce --compress powersgd", "compress", "powersgd"),
    ],
)
def test_a_flag_is_read(line: str, name: str, value: Any) -> None:
    mode = line.split()[0]
    found = algo("--mode", *line.split())
    assert getattr(found.mode_options, name) == value != getattr(MODES[mode].options(), name)
    assert found.recorded()[name] == value


def test_the_worker_optimizer_brings_the_rate_that_schedules_change() -> None:
    argv = ["--mode", "local", "--worker-optimizer", "momentum", "--worker-optimizer-params", "lr=0.25"]
    argv += ["--schedule", "step"]
    assert algo(*argv).algorithm.rate == 0.25
    assert make_schedule([command().parse(argv)]).recorded()["name"] == "step"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("local --nesterov-outer", "--nesterov-outer needs --outer-momentum: give one above 0"),
        ("local --post-local-from 3", "--post-local-from has no effect with --sync-every 1: give"),
        ("local --sync-every 2 --post-local-from 0", "--post-local-from must be at least 1"),
        ("local --outer-lr 0", "--outer-lr must be above 0"),
        ("local --outer-momentum 1", "--outer-momentum must be below 1"),
        (
            "local --lr 0.1",
            "--lr is not read by --mode local, but by allreduce, choco, dinno, downpour, dsgd, dsgt, sign, vote: "
            "give --worker-optimizer-params lr=..., or drop it",
        ),
        ("local --optimizer adam", "--optimizer is not read by --mode local, but by"),
        ("local --worker-optimizer-params lrr=1", "--worker-optimizer-params.*'lrr'"),
        ("local --synchronous", "--synchronous is not read by --mode local"),
        ("local --bucket-mib 1", "--bucket-mib is not read by --mode local, but by allreduce"),
        ("allreduce --outer-lr 0.7", "--outer-lr is not read by --mode allreduce, but by local"),
        ("allreduce --worker-optimizer sgd", "--worker-optimizer is not read by --mode allreduce"),
        ("allreduce --bucket-mib 1 --sync-every 2", "--bucket-mib has no effect with --sync-every 2: drop one of them"),
        ("allreduce --bucket-mib 1 --compress fp16", "--bucket-mib has no effect with --compress fp16: drop one of"),
        (
            "sign --clip-norm 1",
            "--clip-norm, --clip-value are for gradients, and --mode sign steps by votes: drop them",
        ),
        ("vote --clip-value 1", "--clip-norm, --clip-value are for gradients, and --mode vote steps by votes: drop th"),
        ("downpour --post-local-from 2", "--post-local-from is not read by --mode downpour, but by local"),
    ],
)
def test_flags_that_make_no_sense_are_refused_in_one_line(line: str, message: str) -> None:
    with pytest.raises(OptionsError, match=message) as refused:
        algo("--mode", *line.split())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("epochs", [1, 2])
def test_an_epoch_from_which_that_never_comes(epochs: int) -> None:
    x, y = labelled(40)
    local = Algo(None, mode="local", sync_every=2, post_local_from=2)
    with pytest.raises(OptionsError, match=f"--post-local-from 2 has no effect with --epochs {epochs}: lower it, or d"):
        train_here(VirtualWorld(3), Rows(x, y, 5), local, lambda: nn.Linear(8, 4), epochs=epochs)
