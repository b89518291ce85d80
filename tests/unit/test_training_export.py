"""The trained model as ONNX, TorchScript and torch.export: loaded back, it computes what the module does."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nnlo import Algo, Data, MPIManager
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import DataError, OptionsError
from nnlo.flat import Flat, Layout
from nnlo.training.export import FORMATS, Exports, checked_formats
from nnlo.training.files import OutputFiles, Wanted
from tests.jobs import Batches, Built, Rows, cut, labelled

torch.set_num_threads(1)

X, Y = labelled(30)


class Normed(nn.Module):
    """Dropout and BatchNorm, which differ between training and use, and two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 5), nn.Linear(3, 5)
        self.norm, self.dropout, self.last = nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 4)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        return self.last(self.dropout(torch.relu(self.norm(self.first(x) + self.second(other)))))


def run_onnx(path: Path, inputs: list[Tensor]) -> Tensor:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(str(path))
    fed = {one.name: value.numpy() for one, value in zip(session.get_inputs(), inputs, strict=True)}
    return torch.from_numpy(session.run(None, fed)[0])


RUNS: dict[str, Callable[[Path, list[Tensor]], Tensor]] = {
    "onnx": run_onnx,
    "torchscript": lambda path, inputs: torch.jit.load(path)(*inputs),
    "torch-export": lambda path, inputs: torch.export.load(path).module()(*inputs),
}


@pytest.fixture(params=sorted(RUNS))
def name(request: pytest.FixtureRequest) -> str:
    for package in FORMATS[request.param].packages:
        pytest.importorskip(package, reason=f"{package} is not installed")
    return request.param


def exports(name: str, folder: Path, *inputs: Tensor) -> Exports:
    return Exports(OutputFiles(folder, "m", "t", wanted=Wanted(exports=(name,))).exports, inputs)


def batch(samples: int) -> list[Tensor]:
    torch.manual_seed(samples)
    return [torch.randn(samples, 8), torch.randn(samples, 3)]


def in_an_arena(module: nn.Module) -> nn.Module:
    """The module as training leaves it: parts of larger tensors, 400 kB here."""
    layout = Layout.of(module)
    arena = torch.zeros(100_000)
    buffers = sum(slot.size for slot in layout.buffers)
    Flat(module, layout, arena[100 : 100 + layout.numel], arena[5000 : 5000 + buffers])
    return module


def test_every_format_is_tested() -> None:
    assert set(FORMATS) == set(RUNS)


def test_what_is_loaded_computes_the_same_for_any_number_of_samples(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    module = in_an_arena(Normed()).train()
    module.norm.running_mean.fill_(0.25)
    places, inputs = [value.data_ptr() for value in module.state_dict().values()], batch(1)
    state = torch.get_rng_state()
    (path,) = exports(name, tmp_path, *inputs).write(module)
    assert os.listdir(tmp_path) == [path.name]
    assert module.training and module.dropout.training
    assert [value.data_ptr() for value in module.state_dict().values()] == places
    assert torch.equal(torch.get_rng_state(), state)
    module.eval()
    for size in (1, 2, 7):
        inputs = batch(size)
        assert torch.allclose(RUNS[name](path, inputs), module(*inputs), atol=1e-6)
    assert path.stat().st_size < 100_000


def test_a_trial_leaves_nothing(tmp_path: Path) -> None:
    exports("torchscript", tmp_path, *batch(2)).check(Normed())
    assert os.listdir(tmp_path) == []


class Branching(nn.Module):
    """Which way it goes depends on values, which no graph can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if float(x.sum()) > 0 else -self.layer(x)


def manager(folder: Path | None, comm: Any = None, **options: Any) -> MPIManager:
    given: dict[str, Any] = {"data": Rows(X, Y, 10), "make": lambda: nn.Linear(8, 4), **options}
    data: Data = given.pop("data")
    files = [] if data.makes_batches else ["all"]
    return MPIManager(comm, data, Algo("sgd", lr=0.1), Built(given.pop("make")), 1, files, None,
                      output=folder, trial_name="t", **given)  # fmt: skip


@pytest.mark.parametrize("data", [Rows(X, Y, 10), Batches(cut(X, Y, [10, 20]))])
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_training_leaves_the_model_that_it_trained(data: Data, ranks: int, tmp_path: Path) -> None:
    world = VirtualWorld(ranks) if ranks > 1 else None
    made = manager(tmp_path, world, data=data, export=["torchscript"])
    assert made.train() is not None
    loaded = torch.jit.load(tmp_path / "Built_t_model.torchscript.pt")
    x = torch.from_numpy(X)
    assert made.model is not None and torch.equal(loaded(x), made.model(x))
    assert tmp_path / "Built_t_model.torchscript.pt" in made.files.paths


def test_exporting_does_not_change_the_training(tmp_path: Path) -> None:
    make = lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 4))  # noqa: E731
    states = []
    for folder, formats in (("a", []), ("b", ["torchscript", "torch-export"])):
        made = manager(tmp_path / folder, VirtualWorld(2), make=make, export=formats)
        made.train()
        states.append(made.model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_file_that_is_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "Built_t_model.pt2").write_bytes(b"old")
    with pytest.raises(OptionsError, match=r"Built_t_model.pt2 already there.*--overwrite"):
        manager(tmp_path, export=["torch-export"]).train()
    assert manager(tmp_path, export=["torch-export"], overwrite=True).train() is not None
    assert (tmp_path / "Built_t_model.pt2").read_bytes() != b"old"


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_model_that_cannot_be_exported_is_refused_before_training(ranks: int, tmp_path: Path) -> None:
    world = VirtualWorld(ranks) if ranks > 1 else None
    with pytest.raises(OptionsError, match=r"--export torch-export: the model cannot be exported \(.*\): drop it") as e:
        manager(tmp_path, world, make=Branching, export=["torch-export"]).train()
    assert "\n" not in str(e.value)
    assert os.listdir(tmp_path) == []


def test_unknown_formats_list_the_known() -> None:
    with pytest.raises(OptionsError, match=r"--export: unknown export format 'pickle': choose one of onnx, torch-exp"):
        manager(Path("."), export=["pickle"]).close()


def test_formats_count_once() -> None:
    assert checked_formats(["torchscript", "torch-export", "torchscript"]) == ("torchscript", "torch-export")


def test_without_a_folder_there_is_nowhere_to_export_to() -> None:
    with pytest.raises(OptionsError, match=r"--export needs a folder.*--output"):
        manager(None, export=["torchscript"]).close()


def test_without_its_packages_onnx_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(OptionsError, match=r"--export onnx needs onnx and onnxscript: pip install 'nnlo\[export\]'"):
        manager(Path("."), export=["onnx"]).close()


@pytest.fixture
def broken() -> Iterator[str]:
    """A format whose files cannot be written."""

    def write(module: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    FORMATS.register("broken", type(FORMATS["onnx"])("model.broken", write))
    yield "broken"
    del FORMATS._entries["broken"]


def test_a_full_disk_is_one_line_and_keeps_the_old_file(broken: str, tmp_path: Path) -> None:
    made = exports(broken, tmp_path, torch.from_numpy(np.zeros((2, 8), np.float32)))
    (path,) = made.paths.values()
    path.write_bytes(b"old")
    with pytest.raises(DataError, match=r"model\.broken: cannot write"):
        made.write(nn.Linear(8, 4))
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == [path.name]


def test_a_disk_without_room_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(DataError, match=r"cannot write \(File too large\): make room"):
            exports(name, tmp_path, *batch(2)).write(Normed())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == []
