"""Flags of NNLO that only state what holds here anyway, so that its command lines run as they are."""

from __future__ import annotations

from dataclasses import dataclass

from nnlo.errors import OptionsError
from nnlo.options import Options, option


@dataclass(frozen=True, kw_only=True)
class InheritedArguments(Options):
    """From NNLO"""

    backend: str = option("torch", help="what computes", choices=lambda: ("torch",))
    thread_validation: bool = option(True, help="validate beside the training, which is always done")

    def check(self) -> None:
        if not self.thread_validation:
            raise OptionsError("--no-thread-validation: validation always runs beside the training: drop it")
