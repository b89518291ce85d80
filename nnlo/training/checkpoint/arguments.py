"""Options of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnlo.errors import OptionsError
from nnlo.options import Options, option
from nnlo.training.durations import seconds_of

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class CheckpointArguments(Options):
    """Checkpoints"""

    checkpoint: Path | None = option(
        None, help="keep checkpoints in this folder, one at the end among them", metavar="BASE"
    )
    checkpoint_interval: int = option(5, help="epochs between two checkpoints", metavar="N", at_least=1)
    checkpoint_every: str | None = option(
        None, help="time between two checkpoints, as 90s, 10m or 2h, beside those of --checkpoint-interval",
        metavar="TIME",
    )  # fmt: skip
    keep: int = option(2, help="how many checkpoints are kept: the last ones", metavar="N", at_least=1)
    keep_best: tuple[str, ...] = option(
        (),
        help="keep the checkpoint with the best value of this figure too, for example val_loss or val_acc,max",
        metavar="METRIC[,min|max]",
    )
    restore: Path | None = option(
        None,
        help="go on from the last checkpoint in this folder; auto: from the last one of --checkpoint, or anew where "
        "there is none yet",
        metavar="BASE",
    )

    def check(self) -> None:
        given = {"--checkpoint-every": self.checkpoint_every, "--keep-best": self.keep_best}
        for flag, value in given.items():
            if value and self.checkpoint is None:
                raise OptionsError(f"{flag} is for --checkpoint: name a folder there, or drop it")
        if len(self.keep_best) > 2:
            raise OptionsError(f"--keep-best takes METRIC, METRIC,min or METRIC,max, not {','.join(self.keep_best)!r}")
        if self.automatic and self.checkpoint is None:
            raise OptionsError("--restore auto looks into the folder of --checkpoint: name that, or a folder here")
        _ = self.seconds

    @property
    def automatic(self) -> bool:
        """Whether to begin anew where there is no checkpoint."""
        return self.restore is not None and str(self.restore) == AUTO

    @property
    def source(self) -> Path | None:
        """Where to restore from, None for not at all."""
        return self.checkpoint if self.automatic else self.restore

    @property
    def seconds(self) -> float | None:
        """Between two checkpoints, None for no limit. Raises OptionsError."""
        return None if self.checkpoint_every is None else seconds_of("--checkpoint-every", self.checkpoint_every)
