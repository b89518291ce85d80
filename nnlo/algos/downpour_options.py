"""The options of Downpour SGD, and which of them go together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nnlo.algos.base import ServerOptions
from nnlo.compress import CodecSpec
from nnlo.compress.options import CompressOptions, check_not_summed
from nnlo.errors import OptionsError
from nnlo.options import option

#: What the rate is divided by for an update that is so many steps late.
DIVISORS: dict[str, Callable[[int], int]] = {
    "none": lambda delay: 1,
    "inverse": lambda delay: max(1, delay),
    "inverse-plus-one": lambda delay: delay + 1,
}


@dataclass(frozen=True, kw_only=True)
class DownpourOptions(ServerOptions, CompressOptions):
    """Downpour SGD (--mode downpour)."""

    local_lr: float = option(
        0.0, help="learning rate of a worker's own steps between two exchanges; 0 keeps its weights still", at_least=0.0
    )

    staleness: str = option(
        "none",
        help="divide the rate of an update that is D steps late by D (inverse) or by D + 1 (inverse-plus-one)",
        choices=lambda: DIVISORS,
    )
    max_staleness: int | None = option(
        None,
        help="refuse an update that is more steps late than this; its worker begins again from the weights now",
        metavar="STEPS",
        at_least=0,
    )
    compress_down: str = option(
        "none",
        help="how the master's answers are compressed, as for --compress: each says how a worker's weights move",
        metavar="CODEC",
    )
    delay_compensation: float = option(
        0.0,
        help="correct a late gradient g by LAMBDA g*g times what the weights have moved since (DC-ASGD); 0: off",
        metavar="LAMBDA",
        at_least=0,
    )
    pipeline: bool = option(
        False,
        help="compute the next update while the last is under way, at weights that are a step older",
    )
    hogwild: bool = option(
        False,
        help="workers of one host have the master's weights themselves, and step on them without waiting for others",
    )
    backup_workers: int = option(
        0,
        help="a step of --synchronous goes without the last K gradients, which are refused when they come",
        metavar="K",
        at_least=0,
    )

    def check(self) -> None:
        super().check()
        check_not_summed(self.down)
        if self.local_lr and self.sync_every == 1:
            raise OptionsError("--local-lr has no effect with --sync-every 1: give --sync-every 2 or more, or drop it")
        if self.backup_workers and not self.synchronous:
            raise OptionsError("--backup-workers has no effect without --synchronous: add that, or drop it")
        if self.pipeline and self.at_known_weights:
            raise OptionsError(f"--pipeline does not go with {self.at_known_weights}: drop one")
        if self.hogwild and self.with_updates:
            raise OptionsError(f"--hogwild does not go with {self.with_updates}: drop one")
        if self.synchronous and (late := self.about_late_updates):
            raise OptionsError(f"{late[0]} has no effect with --synchronous, which applies no late update: drop one")

    @property
    def down(self) -> CodecSpec | None:
        return CodecSpec.of(self.compress_down, "--compress-down")

    @property
    def at_known_weights(self) -> str:
        """The flag in use that wants gradients at the weights that their worker was sent last, if any."""
        flags = {"--delay-compensation": self.delay_compensation > 0, "--backup-workers": self.backup_workers > 0}
        return next((flag for flag, used in flags.items() if used), "")

    @property
    def with_updates(self) -> str:
        """The flag in use that wants updates which the master applies, if any."""
        flags = {
            "--synchronous": self.synchronous,
            "--local-lr": self.local_lr > 0,
            "--compress": self.codec is not None,
            "--compress-down": self.down is not None,
            "--pipeline": self.pipeline,
            **dict.fromkeys(self.about_late_updates, True),
        }
        return next((flag for flag, used in flags.items() if used), "")

    @property
    def about_late_updates(self) -> list[str]:
        """The flags in use that say how a late update is applied."""
        given = {
            "--staleness": self.staleness != "none",
            "--max-staleness": self.max_staleness is not None,
            "--delay-compensation": self.delay_compensation > 0,
        }
        return [flag for flag, used in given.items() if used]
