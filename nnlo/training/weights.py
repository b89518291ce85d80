"""Options about the weights: where they come from, and in which other forms they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnlo.errors import OptionsError
from nnlo.options import Options, option
from nnlo.training.export import FORMATS


@dataclass(frozen=True, kw_only=True)
class WeightsArguments(Options):
    """Weights"""

    weights: Path | None = option(
        None, help="start from the weights in this file, .safetensors or a state_dict (.pt)", metavar="FILE"
    )
    evaluate: Path | None = option(
        None,
        help="train nothing and write nothing: load these weights and print how they do on the validation data",
        metavar="FILE",
    )
    export: tuple[str, ...] = option(
        (),
        help=f"keep the trained model in these forms too, for use without its source: {', '.join(FORMATS)}",
        metavar="FORMAT,...",
    )

    def check(self) -> None:
        if self.evaluate is not None and self.weights is not None:
            raise OptionsError("--weights and --evaluate both name weights: give --evaluate alone to train nothing")
        if self.evaluate is not None and self.export:
            raise OptionsError("--export keeps a model that was trained: drop it or --evaluate")

    @property
    def initial(self) -> Path | None:
        """The file of the weights to begin with."""
        return self.weights or self.evaluate
