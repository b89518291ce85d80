"""A second mode beside the first: shared options once, options of others refused. The mode is a toy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from nnlo.algos import MODES, Mode
from nnlo.algos.base import ServerOptions
from nnlo.algos.downpour import Downpour, DownpourOptions
from nnlo.cli import build
from nnlo.drivers.TrainingDriver import command, make_algo
from nnlo.errors import OptionsError
from nnlo.options import option
from nnlo.training.algo import Algo
from nnlo.training.arguments import ModelArguments, TrainingArguments


@dataclass(frozen=True, kw_only=True)
class ToyOptions(ServerOptions):
    """A toy (--mode toy)."""

    pull: float = option(0.5, help="how hard")


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    MODES.register("toy", Mode(ToyOptions, lambda options: Downpour(DownpourOptions()), needs_optimizer=False))
    yield
    del MODES._entries["toy"]


def algo(*argv: str) -> Algo:
    layers = command().parse(argv), {"optimizer": "adam", "lr": 0.002}
    return make_algo(build(ModelArguments, *layers), build(TrainingArguments, *layers), layers)


def test_options_that_modes_share_are_shown_once_and_read_by_both() -> None:
    assert command().parser.format_help().count("--sync-every TAU") == 1
    assert algo("--mode", "toy", "--sync-every", "3", "--pull", "0.25").mode_options == ToyOptions(
        sync_every=3, pull=0.25
    )
    assert algo("--sync-every", "3").mode_options == DownpourOptions(sync_every=3)


def test_the_defaults_of_a_model_do_not_disturb_a_mode_without_optimizer() -> None:
    assert algo("--mode", "toy").optimizer is None


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ("--mode", "toy", "--sync-every", "2", "--local-lr", "1"),
            "--local-lr is not read by --mode toy, but by downpour",
        ),
        (("--pull", "1"), "--pull is not read by --mode downpour, but by toy"),
        (("--mode", "toy", "--lr", "1"), "--lr is not read by --mode toy, but by allreduce, choco"),
    ],
)
def test_what_a_mode_does_not_read_is_refused(argv: tuple[str, ...], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        algo(*argv)
