"""The codecs by name: one line each."""

from nnlo.compress.base import CODECS, Codec, CodecSpec, Reduction
from nnlo.compress.compressor import Compressor
from nnlo.compress.half import Bf16, Fp16

CODECS.register("fp16", Fp16)
CODECS.register("bf16", Bf16)

__all__ = ["CODECS", "Codec", "CodecSpec", "Compressor", "Reduction"]
