"""The options of modes whose updates can be compressed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nnlo.compress.base import CODECS, CodecSpec
from nnlo.errors import OptionsError
from nnlo.options import Options, option


@dataclass(frozen=True, kw_only=True)
class CompressOptions(Options):
    """Compression (--mode allreduce, downpour, easgd, local)."""

    reduces: ClassVar[bool] = False  # whether updates are summed on their way

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
        spec = self.codec
        if spec is None and self.error_feedback is not None:
            raise OptionsError("--error-feedback has no effect without --compress: name a codec, or drop it")
        if not self.reduces:
            check_not_summed(spec)

    @property
    def codec(self) -> CodecSpec | None:
        return CodecSpec.of(self.compress)

    @property
    def feedback(self) -> bool:
        """Whether what is left out is kept."""
        spec = self.codec
        return spec is not None and (spec.needs_feedback if self.error_feedback is None else self.error_feedback)


def check_not_summed(spec: CodecSpec | None) -> None:
    """Raises OptionsError for a codec whose vectors are summed on their way."""
    if spec is not None and spec.reduces:
        raise OptionsError(
            f"{spec.flag} {spec.name}: its updates are summed on their way, as with --mode allreduce: "
            "choose another codec"
        )
