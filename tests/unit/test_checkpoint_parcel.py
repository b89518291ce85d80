"""The state of a rank as bytes: what goes in comes out bit for bit, and no bytes do anything else than be read."""

from __future__ import annotations

import json
import math
import pickle
import random
import struct
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from nnlo.errors import DataError
from nnlo.optim import OPTIMIZERS, OptimizerSpec
from nnlo.training.checkpoint.parcel import KEY, Tree, packed, unpacked

SIGNS = ("tensor", "tuple", "numbered")
DTYPES = (
    torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8, torch.bool,
)  # fmt: skip


def same(one: Tree, other: Tree) -> bool:
    """Whether two trees have the same kinds, the same order of keys and the same bits."""
    if isinstance(one, Tensor):
        return (one.dtype, one.shape) == (other.dtype, other.shape) and torch.equal(bits(one), bits(other))
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, dict):
        return same(list(one.items()), list(other.items()))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def bits(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.flatten()).view(torch.uint8)


def back(tree: Tree) -> Tree:
    return unpacked(packed(tree), "a file")


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.just(math.nan)
    | st.text(max_size=5)
    | st.sampled_from(SIGNS)
)
TENSORS = st.builds(
    lambda dtype, shape, seed: torch.from_numpy(np.random.default_rng(seed).integers(0, 2, shape)).to(dtype),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=3),
    st.integers(0, 99),
)
TEXTS = st.sampled_from(SIGNS) | st.text(max_size=3)
TREES = st.recursive(
    PLAIN | TENSORS,
    lambda some: (
        st.lists(some, max_size=3)
        | st.lists(some, max_size=3).map(tuple)
        | st.dictionaries(TEXTS, some, max_size=3)
        | st.dictionaries(TEXTS | st.integers(-3, 3), some, max_size=3)
    ),
    max_leaves=12,
)


@given(tree=TREES)
def test_any_tree_comes_back_as_it_was(tree: Tree) -> None:
    assert same(back(tree), tree)


@pytest.mark.parametrize(
    "tree",
    [
        {"a": {1: {"b": {-2: "c"}}}, 0: {}},
        {"1": "text", 1: "number", -1: "less"},
        {True: "truth", "True": "text"},
        {sign: {sign: [sign, (sign,)]} for sign in SIGNS},
        [{"tensor": "0"}, {"tuple": [1]}, {"numbered": [[1, 2]]}, {"tensor": torch.ones(2)}],
        [[], (), {}, [()], ([],), ((),), "", None, True, False, 0, 1],
        {"": "", "\0é\u2028\U0001f600": "\n", "\ud800": "\udfff"},
        [2**200, -(2**63)],
    ],
)
def test_what_json_might_take_for_something_else(tree: Tree) -> None:
    assert same(back(tree), tree)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 0.0, -0.0, 5e-324, 1.7976931348623157e308, 0.1, 1e22])
def test_numbers_keep_their_bits(value: float) -> None:
    assert same(back({"x": [value]}), {"x": [value]})


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_of_any_kind_and_shape(dtype: torch.dtype) -> None:
    for shape in ((), (0,), (3, 0, 2), (5,), (2, 3, 4)):
        tensor = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape)).to(dtype)
        assert same(back([tensor]), [tensor])


def test_tensors_keep_the_bits_of_what_is_no_number() -> None:
    patterns = [0x7F800000, -0x800000, 0x7FC00001, -0x3FFFFF, 0x7F800001, -0x80000000, 1]
    tensor = torch.tensor(patterns, dtype=torch.int32).view(torch.float32)
    assert same(back(tensor), tensor)


def test_tensors_that_lie_in_memory_in_other_ways() -> None:
    memory = torch.arange(24.0)
    tree: Tree = {
        "transposed": memory.view(4, 6).t(),
        "steps": memory[1::5],
        "expanded": memory[:1].expand(3, 2),
        "channels last": memory.view(1, 2, 3, 4).to(memory_format=torch.channels_last),
        "views": [memory, memory[:12], memory[6:18], memory.view(2, 12), memory],
        "conjugate": torch.tensor([1 + 2j, 3 - 4j]).conj(),
        "negative": torch.tensor([1 + 2j, 3 - 4j]).conj().imag,
    }
    got = back(tree)
    assert same(got, tree)
    got["views"][0].zero_()
    assert same(got["views"][1:], tree["views"][1:]), "they are tensors of their own"


def test_what_needs_gradients_comes_back_as_data() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    got = back([weight, weight * 2])
    assert [type(one) for one in got] == [Tensor, Tensor] and not any(one.requires_grad for one in got)
    assert [one.tolist() for one in got] == [[1.0, 1.0], [2.0, 2.0]]


def test_what_is_packed_stays_as_it_was_then() -> None:
    tensor = torch.zeros(3)
    data = packed({"t": tensor})
    tensor.fill_(1.0)
    assert unpacked(data, "a file")["t"].tolist() == [0.0] * 3


def test_the_bytes_are_a_file_of_safetensors() -> None:
    tensors = safetensors.torch.load(packed({"a": torch.ones(2), "b": [torch.zeros(3)]}))
    assert sorted(tensor.tolist() for tensor in tensors.values()) == [[0.0] * 3, [1.0] * 2]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_an_optimizer_goes_on_bit_for_bit(name: str, fused: bool) -> None:
    def gradient(step: int) -> Tensor:
        return torch.randn(7, generator=torch.Generator().manual_seed(step))

    spec, weights = OptimizerSpec.of(name, {}, fused=fused), torch.ones(7)
    optimizer = spec.build(weights)
    optimizer.scale(0.5)
    for step in range(3):
        optimizer.step(weights, gradient(step))
    state = optimizer.state_dict()
    got, again = unpacked(packed({"state": state, "w": weights}), "a file"), spec.build(torch.zeros(7))
    assert same(got["state"], state)
    again.load_state_dict(got["state"])
    for step in range(3, 6):
        optimizer.step(weights, gradient(step))
        again.step(got["w"], gradient(step))
    assert same(got["w"], weights) and again.factor == 0.5 and same(again.state_dict(), optimizer.state_dict())


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (b"bytes", "bytes"),
        ({1, 2}, "set"),
        (1j, "complex"),
        (object(), "object"),
        (range(3), "range"),
        (np.ones(2), "ndarray"),
        (np.float32(1.0), "float32"),
        (torch.float32, "dtype"),
        (torch.device("cpu"), "device"),
        (len, "builtin_function_or_method"),
        ({1.5: 0}, "keys"),
        ({None: 0}, "keys"),
        ({(1,): 0}, "keys"),
        ({"a": 0, b"b": 1}, "keys"),
    ],
)
def test_what_there_is_no_form_for(value: Any, named: str) -> None:
    for tree in (value, [value], (0, value), {"a": value}, {1: value}):
        with pytest.raises(TypeError, match=named):
            packed(tree)


def test_kinds_of_dictionaries_and_tuples_become_plain_ones() -> None:
    assert same(back([OrderedDict(a=1), torch.Size((2, 3))]), [{"a": 1}, (2, 3)])


# What is no parcel.

TREE = {
    "a": [1, 2.5, None, True, math.inf, "text", (1, 2)],
    3: torch.arange(6.0).reshape(2, 3),
    "tensor": {"x": torch.empty(0)},
    "b": torch.ones(3, dtype=torch.bfloat16),
    "n": {1: {2: torch.tensor(7)}},
}
DATA = packed(TREE)
HEADER = 8 + int.from_bytes(DATA[:8], "little")


def refused(data: bytes) -> bool:
    """Whether it is; a tree is what it is otherwise. Any exception but DataError is a failure."""
    try:
        tree = unpacked(data, "a file")
    except DataError as error:
        assert str(error).startswith("a file: not a part of a checkpoint, or a damaged one")
        return True
    packed(tree)
    return False


def test_any_part_of_it_alone_is_refused() -> None:
    assert all(refused(DATA[:end]) for end in range(len(DATA)))
    assert refused(DATA + b"\0")


def test_any_bit_that_changes_gives_a_tree_or_is_refused() -> None:
    changed = [DATA[:i] + bytes([DATA[i] ^ 1 << bit]) + DATA[i + 1 :] for i in range(len(DATA)) for bit in range(8)]
    taken = [data for data in changed if not refused(data)]
    assert len(taken) >= 8 * (len(DATA) - HEADER), "what is within a tensor can be read"
    assert len(taken) < len(changed) / 2


def test_bytes_that_change_in_the_header() -> None:
    rng = random.Random(0)
    for _ in range(2000):
        data = bytearray(DATA)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(HEADER)] = rng.randrange(256)
        refused(bytes(data))


def test_any_bytes_are_refused() -> None:
    rng = random.Random(0)
    assert all(refused(rng.randbytes(rng.randrange(200))) for _ in range(500))
    for header in (b"", b"{}", b"[]", b"null", b'{"__metadata__":{}}', b"\xff\xfe{", b"{" * 5000, b"[" * 5000):
        assert refused(len(header).to_bytes(8, "little") + header)
    for length in (0, 1, 2**31, 2**40, 2**63, 2**64 - 1):
        assert refused(length.to_bytes(8, "little") + b"{}")


class Making:
    """Opens a file for writing as soon as a pickle of it is read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., TextIO], tuple[str, str]]:
        return open, (str(self._path), "w")


def test_a_pickle_has_no_code_run(tmp_path: Path) -> None:
    path = tmp_path / "made"
    file = BytesIO()
    torch.save({"a": Making(path)}, file)
    pickles = [pickle.dumps(Making(path), protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for data in (*pickles, file.getvalue()):
        assert refused(data)
        inside = safetensors.torch.save({"0": torch.ones(1)}, metadata={KEY: data.decode("latin-1")})
        assert refused(inside) and not path.exists()
    pickle.loads(pickles[0]).close()
    assert path.exists(), "the pickle would have made it"


def test_files_of_torch_are_refused() -> None:
    for zipped in (True, False):
        file = BytesIO()
        torch.save({"weight": torch.ones(2)}, file, _use_new_zipfile_serialization=zipped)
        assert refused(file.getvalue())


@pytest.mark.parametrize("metadata", [None, {}, {"format": "pt"}])
def test_files_of_safetensors_that_are_not_ours(metadata: dict[str, str] | None) -> None:
    assert refused(safetensors.torch.save({"weight": torch.ones(2)}, metadata=metadata))


def parcel(text: str) -> bytes:
    """One with this JSON and one tensor, "0"."""
    return bytes(safetensors.torch.save({"0": torch.ones(1)}, metadata={KEY: text}))


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "{", "no", "'a'", "[1,]", "\ufeff{}", "9" * 5000, "[" * 100_000, '{"a":' * 100_000,
        "[" * 5000 + "]" * 5000, '{"a":' * 5000 + "1" + "}" * 5000,
        '{"tensor": "1"}', '{"tensor": 0}', '{"tensor": null}', '{"tensor": []}', '{"tensor": {}}',
        '{"tuple": 1}', '{"tuple": null}', '{"numbered": 1}', '{"numbered": [1]}', '{"numbered": [[1]]}',
        '{"numbered": [[1, 2, 3]]}', '{"numbered": [[[], 1]]}', '{"numbered": [[{}, 1]]}', '{"numbered": null}',
    ],
)  # fmt: skip
def test_json_that_describes_no_tree(text: str) -> None:
    assert refused(parcel(text))


def test_json_of_another_kind_gives_a_tree_or_is_refused() -> None:
    rng = random.Random(0)

    def any_json(depth: int) -> Any:
        kind = rng.randrange(9 if depth < 4 else 5)
        if kind < 5:
            return rng.choice([None, 0, 1.5, True, "0", "1", "tensor", [], {}, [[1]], [[1, 2]], [["a", "b", "c"]]])
        if kind < 7:
            return [any_json(depth + 1) for _ in range(rng.randrange(3))]
        return {rng.choice([*SIGNS, "a", "0"]): any_json(depth + 1) for _ in range(rng.randrange(3))}

    outcomes = [refused(parcel(json.dumps(any_json(0)))) for _ in range(1500)]
    assert True in outcomes and False in outcomes
