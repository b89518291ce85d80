"""--compress and --error-feedback: what they take, and the one line that refuses what makes no sense."""

from __future__ import annotations

from typing import Any

import pytest

from nnlo.algos.allreduce import AllreduceOptions
from nnlo.algos.downpour import Downpour
from nnlo.algos.downpour_options import DownpourOptions
from nnlo.compress import CodecSpec
from nnlo.errors import OptionsError
from tests.codecs import layout_of


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("fp16", {}), ("bf16", {}), ("sign", {}), ("bins", {"bits": 8}), ("bins:bits=3", {"bits": 3}),
        ("bins:bits=1", {"bits": 1}), ("bins:bits=16", {"bits": 16}), ("topk", {"ratio": 0.01}),
        ("topk:ratio=1", {"ratio": 1.0}), ("topk:ratio=1e-9", {"ratio": 1e-9}), ("qsgd", {"levels": 127}),
        ("qsgd:levels=1", {"levels": 1}), ("qsgd:levels=32767", {"levels": 32767}), ("powersgd", {"rank": 2}),
        ("powersgd:rank=4", {"rank": 4}),
    ],
)  # fmt: skip
def test_settings(text: str, settings: dict[str, Any]) -> None:
    spec = CodecSpec.of(text)
    assert spec is not None and spec.name == text.partition(":")[0] and spec.settings.recorded() == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bins:bits=0", "bins:bits=0: bits must be at least 1, not 0"),
        ("bins:bits=17", "bins:bits=17: bits must be at most 16, not 17"),
        ("bins:bits=2.5", "bins:bits=2.5: bits must be a whole number, not 2.5"),
        ("bins:levels=3", "bins:levels=3: no setting 'levels': it has bits"),
        ("topk:ratio=0", "topk:ratio=0: ratio must be above 0, not 0.0"),
        ("topk:ratio=-0.5", "topk:ratio=-0.5: ratio must be above 0, not -0.5"),
        ("topk:ratio=1.01", "topk:ratio=1.01: ratio must be at most 1, not 1.01"),
        ("topk:ratio=NaN", "topk:ratio=NaN: ratio must be a finite number, not nan"),
        ("qsgd:levels=0", "qsgd:levels=0: levels must be at least 1, not 0"),
        ("qsgd:levels=32768", "qsgd:levels=32768: levels must be at most 32767, not 32768"),
        ("powersgd:rank=0", "powersgd:rank=0: rank must be at least 1, not 0"),
        ("sign:bits=1", "sign:bits=1: no setting 'bits': it has none"),
        ("none:bits=1", "none:bits=1: none has no setting: drop 'bits=1'"),
    ],
)
@pytest.mark.parametrize("options", [DownpourOptions, AllreduceOptions])
def test_bad_settings_are_refused(options: type[DownpourOptions | AllreduceOptions], text: str, message: str) -> None:
    with pytest.raises(OptionsError) as caught:
        options(compress=text)
    assert str(caught.value) == f"--compress {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("topk:ratio=0", "--compress-down topk:ratio=0: ratio must be above 0, not 0.0"),
        ("powersgd", "--compress-down powersgd: its updates are summed on their way, as with --mode allreduce: choose"),
        ("top", "--compress-down: unknown codec 'top': choose one of bf16, "),
    ],
)
def test_what_the_way_down_cannot_be(text: str, message: str) -> None:
    with pytest.raises(OptionsError) as caught:
        DownpourOptions(compress_down=text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("text", ["top:ratio=0.1", "bins3", ""])
def test_unknown_codecs_are_answered_with_the_known(text: str) -> None:
    with pytest.raises(OptionsError, match=r"--compress: unknown codec '.*': choose one of bf16, bins, fp16, .*topk"):
        DownpourOptions(compress=text)


def test_sums_go_with_collectives_alone() -> None:
    assert AllreduceOptions(compress="powersgd:rank=2").codec == CodecSpec.of("powersgd:rank=2")
    with pytest.raises(OptionsError, match=r"^--compress powersgd: its updates are summed on their way, as with"):
        DownpourOptions(compress="powersgd:rank=2")


@pytest.mark.parametrize(
    ("text", "asked", "kept"),
    [
        ("none", None, False), ("sign", None, True), ("sign", False, False), ("fp16", None, False),
        ("fp16", True, True), ("qsgd", None, False), ("qsgd", True, True), ("topk", None, True),
    ],
)  # fmt: skip
def test_feedback_is_on_where_the_codec_needs_it_and_where_it_is_asked_for(
    text: str, asked: bool | None, kept: bool
) -> None:
    assert Downpour(DownpourOptions(compress=text, error_feedback=asked)).feedback is kept


@pytest.mark.parametrize("asked", [True, False])
def test_feedback_without_a_codec_is_refused(asked: bool) -> None:
    with pytest.raises(
        OptionsError, match=r"^--error-feedback has no effect without --compress: name a codec, or drop"
    ):
        DownpourOptions(error_feedback=asked)


def test_what_the_model_does_not_go_with_is_refused_before_training() -> None:
    algorithm = AllreduceOptions(compress="powersgd:rank=3")
    assert algorithm.codec is not None
    with pytest.raises(OptionsError, match=r"^--compress powersgd: rank 3 is too large for '0' of shape 2 x 9"):
        algorithm.codec.build(layout_of([(2, 9)]))
