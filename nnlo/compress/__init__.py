"""The codecs by name: one line each."""

from nnlo.compress.base import CODECS, Codec, CodecSpec, Reduction
from nnlo.compress.bins import Bins
from nnlo.compress.compressor import Compressor
from nnlo.compress.half import Bf16, Fp16
from nnlo.compress.powersgd import Powersgd
from nnlo.compress.qsgd import Qsgd
from nnlo.compress.sign import Sign
from nnlo.compress.topk import Topk

CODECS.register("fp16", Fp16)
CODECS.register("bf16", Bf16)
CODECS.register("sign", Sign)
CODECS.register("bins", Bins)
CODECS.register("topk", Topk)
CODECS.register("qsgd", Qsgd)
CODECS.register("powersgd", Powersgd)

__all__ = ["CODECS", "Codec", "CodecSpec", "Compressor", "Reduction"]
