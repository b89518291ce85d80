"""The files of a run: names, checks, whole or not at all, and that they load back."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, load_model
from torch import nn

from nnlo.errors import DataError, OptionsError
from nnlo.flat import Flat, Layout
from nnlo.gradients import Gradients
from nnlo.training import weight_files
from nnlo.training.atomic import replacing
from nnlo.training.files import OutputFiles, Wanted, time_stamp, write_history

torch.set_num_threads(1)


class Everything(nn.Module):
    """Tied parameters, a frozen one, BatchNorm's buffers, an empty buffer and one of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(6, 4)
        self.norm = nn.BatchNorm1d(4)
        self.decoder = nn.Linear(4, 6, bias=False)
        self.decoder.weight = self.embedding.weight
        self.frozen = nn.Linear(4, 4)
        self.frozen.requires_grad_(False)
        self.register_buffer("empty", torch.zeros(0))
        self.register_buffer("also_empty", torch.zeros(0))
        self.register_buffer("steps", torch.tensor(3))


def trained(flat: bool) -> Everything:
    """A module unlike a fresh one in each of its values; `flat`: as the parts of a larger arena."""
    torch.manual_seed(1)
    module = Everything()
    if flat:
        layout = Layout.of(module)
        arena = torch.zeros(10_000)
        vector, gradient = arena[100 : 100 + layout.numel], arena[2000 : 2000 + layout.numel]
        count = sum(slot.size for slot in layout.buffers)
        Flat(module, layout, vector, arena[5000 : 5000 + count])
        Gradients(module, layout, gradient)
    with torch.no_grad():
        for value in (*module.parameters(), *module.buffers()):
            value.add_(torch.ones_like(value) * 2)
    return module


def assert_same(module: nn.Module, other: nn.Module) -> None:
    for (name, value), wanted in zip(module.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(value, wanted), name


@pytest.mark.parametrize("flat", [False, True])
def test_weights_load_back_into_a_fresh_module(tmp_path: Path, flat: bool) -> None:
    module = trained(flat)
    written = OutputFiles(tmp_path, "m", "t").write_weights(module)
    for load in (
        lambda fresh: load_model(fresh, written.safetensors),
        lambda fresh: fresh.load_state_dict(torch.load(written.pt, weights_only=True)),
    ):
        fresh = Everything()
        assert not torch.equal(fresh.frozen.weight, module.frozen.weight)
        load(fresh)
        assert_same(fresh, module)
        assert fresh.decoder.weight is fresh.embedding.weight


def test_a_file_holds_the_weights_alone_and_tied_ones_once(tmp_path: Path) -> None:
    """Not the arena that they are parts of, which is 40 kB here."""
    written = OutputFiles(tmp_path, "m", "t").write_weights(trained(flat=True))
    assert "decoder.weight" in (tensors := load_file(written.safetensors)) and "embedding.weight" not in tensors
    state = torch.load(written.pt, weights_only=True)
    assert state["decoder.weight"].data_ptr() == state["embedding.weight"].data_ptr()
    assert written.safetensors.stat().st_size < 4000 and written.pt.stat().st_size < 10_000


def test_the_same_weights_make_the_same_bytes(tmp_path: Path) -> None:
    one, two = (OutputFiles(tmp_path, "m", trial).write_weights(trained(False)) for trial in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_the_module_is_left_as_it_was(tmp_path: Path) -> None:
    module = trained(flat=True)
    before = [value.data_ptr() for value in module.state_dict().values()]
    OutputFiles(tmp_path).write_weights(module)
    assert [value.data_ptr() for value in module.state_dict().values()] == before


def test_names(tmp_path: Path) -> None:
    outputs = OutputFiles(tmp_path, "mnist", "a1")
    outputs.keep(nn.Linear(2, 2))
    written = outputs.write({"epochs": []})
    names = {"mnist_a1_history.json", "mnist_a1_weights.safetensors", "mnist_a1_weights.pt"}
    assert names <= {path.name for path in written} <= names | {"mnist_a1_curves.png"}
    assert sorted(os.listdir(tmp_path)) == sorted(path.name for path in written)


def test_weights_that_are_not_wanted_are_not_written_nor_in_the_way(tmp_path: Path) -> None:
    for name in ("m_t_weights.pt", "m_t_weights.safetensors"):
        (tmp_path / name).write_bytes(b"old")
    outputs = OutputFiles(tmp_path, "m", "t", wanted=Wanted(weights=False))
    outputs.check()
    outputs.keep(nn.Linear(2, 2))
    written = outputs.write({"epochs": []})
    assert outputs.history in written and not set(outputs.weights) & set(written)
    assert [path.read_bytes() for path in outputs.weights] == [b"old", b"old"]
    with pytest.raises(OptionsError, match=r": m_t_history\.json.* already there"):
        OutputFiles(tmp_path, "m", "t", wanted=Wanted(weights=False)).check()


def test_a_report_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    assert OutputFiles(tmp_path, "m", "a").report not in OutputFiles(tmp_path, "m", "a").write({"epochs": []})
    outputs = OutputFiles(tmp_path, "m", "t", wanted=Wanted(report=True))
    assert outputs.report.name == "m_t_report.html"
    assert outputs.report in outputs.write({"epochs": []})
    with pytest.raises(OptionsError, match=r"m_t_report\.html"):
        OutputFiles(tmp_path, "m", "t", wanted=Wanted(report=True)).check()


def test_of_a_run_that_failed_there_are_history_and_report(tmp_path: Path) -> None:
    """Nothing of an earlier one remains beside them."""
    outputs = OutputFiles(tmp_path, "m", "t", wanted=Wanted(report=True))
    outputs.keep(nn.Linear(2, 2))
    outputs.write({"epochs": []})
    outputs = OutputFiles(tmp_path, "m", "t", overwrite=True, wanted=Wanted(report=True))
    outputs.write_account({"epochs": [], "outcome": "failed: no"})
    assert outputs.written == (outputs.history, outputs.report)
    assert {tmp_path / name for name in os.listdir(tmp_path)} == set(outputs.written)
    assert "failed: no" in outputs.report.read_text()


def test_a_name_of_a_model_stays_in_the_folder(tmp_path: Path) -> None:
    assert all(path.parent == tmp_path for path in OutputFiles(tmp_path, "../evil", "t").paths)


def test_the_default_trial_is_a_time_stamp() -> None:
    assert re.fullmatch(r"\d{8}-\d{6}-\d{3}", OutputFiles().trial_name)
    assert time_stamp(1.25).endswith("-250") and time_stamp(1.25) < time_stamp(2)


def test_check_leaves_nothing_behind(tmp_path: Path) -> None:
    OutputFiles(tmp_path / "a" / "b", "m", "t").check()
    assert os.listdir(tmp_path) == []


def test_files_that_are_there_are_refused_unless_told(tmp_path: Path) -> None:
    (tmp_path / "m_t_weights.pt").write_bytes(b"old")
    with pytest.raises(OptionsError, match=r"--output .*m_t_weights.pt.*--trial-name.*--overwrite"):
        OutputFiles(tmp_path, "m", "t").check()
    outputs = OutputFiles(tmp_path, "m", "t", overwrite=True)
    outputs.check()
    outputs.write_weights(nn.Linear(1, 1))
    assert torch.load(outputs.weights.pt, weights_only=True).keys() == {"weight", "bias"}


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nnlo")):
        with pytest.raises(OptionsError, match=r"--output .*cannot write"):
            OutputFiles(folder, "m", "t").check()


@pytest.mark.parametrize("name", ["", " ", "a/b", "a\nb", "x" * 200])
def test_trial_names_that_no_file_can_have(name: str) -> None:
    with pytest.raises(OptionsError, match="--trial-name"):
        OutputFiles(".", "m", name)


def test_history_is_strict_json(tmp_path: Path) -> None:
    rank = {"1": {"loss": math.inf}}
    history = {
        "trial": "ü",
        "value": np.float32(0.5),
        "path": Path("x"),
        "seconds": -math.inf,
        "none": [],
        "epochs": [{"epoch": 1, "loss": math.nan, "count": np.int64(3), "ranks": rank, "histogram": (1, 2)}] * 2,
    }
    path = OutputFiles(tmp_path, "m", "t").write_history(history)
    text = path.read_text("utf-8")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    epoch = {"epoch": 1, "loss": None, "count": 3, "ranks": {"1": {"loss": None}}, "histogram": [1, 2]}
    assert json.loads(text, parse_constant=refuse) == {
        "trial": "ü",
        "value": 0.5,
        "path": "x",
        "seconds": None,
        "none": [],
        "epochs": [epoch] * 2,
    }
    assert sum('"epoch": 1' in line for line in text.splitlines()) == 2


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = OutputFiles(tmp_path, "m", "t", overwrite=True)
    outputs.weights.pt.write_bytes(b"old")

    def broken(state: object, file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise RuntimeError("unexpected pos 704\nsecond line")

    monkeypatch.setattr(weight_files.torch, "save", broken)
    with pytest.raises(DataError, match=r"cannot write the weights \(unexpected pos 704\): make room"):
        outputs.write_weights(nn.Linear(1, 1))
    assert outputs.weights.pt.read_bytes() == b"old"
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_a_write_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    write_history(tmp_path / "h.json", {})
    assert done == ["fsync", "replace"]


def test_an_empty_file_takes_no_place(tmp_path: Path) -> None:
    with replacing(tmp_path / "x"):
        pass
    assert os.listdir(tmp_path) == []


def test_files_can_be_read_as_the_umask_allows(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        written = OutputFiles(tmp_path).write_weights(nn.Linear(1, 1))
    finally:
        os.umask(old)
    assert {path.stat().st_mode & 0o777 for path in written} == {0o644}


def test_a_folder_that_is_gone_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"h\.json: cannot write .*--output"):
        write_history(tmp_path / "file" / "h.json", {})
