"""The options of modes whose updates can be compressed."""

from __future__ import annotations

from dataclasses import dataclass

from nnlo.compress.base import CODECS, CodecSpec
from nnlo.options import Options, option


@dataclass(frozen=True, kw_only=True)
class CompressOptions(Options):
    """What every mode reads that sends gradients or differences."""

    compress: str = option(
        "none",
        help=f"how updates are compressed: none, {', '.join(CODECS)}, with settings as topk:ratio=0.01",
        metavar="CODEC",
    )
    error_feedback: bool | None = option(
        None, help="add what compression left out of an update to the next one (default where the codec needs it)"
    )

    def check(self) -> None:
        super().check()
        CodecSpec.of(self.compress)

    @property
    def codec(self) -> CodecSpec | None:
        return CodecSpec.of(self.compress)

    @property
    def feedback(self) -> bool:
        """Whether what is left out is kept."""
        spec = self.codec
        return spec is not None and (spec.needs_feedback if self.error_feedback is None else self.error_feedback)
