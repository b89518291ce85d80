"""Weights from files: loaded, refused by the names of their tensors, and evaluated without training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from nnlo import Algo, H5Data, ModelPytorch, MPIManager
from nnlo.comm.virtual import VirtualWorld
from nnlo.drivers import TrainingDriver
from nnlo.errors import DataError, OptionsError
from nnlo.launcher import RANK_VARIABLES
from nnlo.model import evaluate, get_loss, get_metric, load_weights
from nnlo.training.files import OutputFiles
from tests.jobs import Batches, Built, Rows, cut, labelled
from tests.unit.test_driver import DATA, MLP, write_h5

torch.set_num_threads(1)

X, Y = labelled(60)
CE = "categorical_crossentropy"


class Tied(nn.Module):
    """Two names for one tensor, and an empty buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)
        self.outer.weight = self.inner.weight
        self.register_buffer("empty", torch.zeros(0))


def complaint(module: nn.Module, path: Path) -> str:
    before = {name: value.clone() for name, value in module.state_dict().items()}
    with pytest.raises(DataError) as caught:
        load_weights(module, path)
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"weights file '{path}' ")
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    return str(caught.value)


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_what_a_run_wrote_is_loaded_also_tied_tensors(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    written, fresh = Tied(), Tied()
    load_weights(fresh, getattr(OutputFiles(tmp_path, "m", "t").write_weights(written), kind))
    assert torch.equal(fresh.outer.weight, written.inner.weight)
    assert torch.equal(fresh.inner.bias, written.inner.bias)
    assert fresh.outer.weight is fresh.inner.weight


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_each_tensor_that_does_not_fit_is_named(suffix: str, tmp_path: Path) -> None:
    state = {"0.weight": torch.zeros(4, 8), "0.bias": torch.zeros(5), "1.weight": torch.zeros(1)}
    path = tmp_path / f"w.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    said = complaint(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), path)
    for part in ("it lacks 2.weight", "it lacks 2.bias", "the model has no 1.weight", "0.bias is (5,) there, (4,) in"):
        assert part in said
    assert "0.weight is" not in said


def test_only_some_of_many_are_named(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "w.pt")
    said = complaint(nn.Sequential(*(nn.Linear(1, 1) for _ in range(6))), tmp_path / "w.pt")
    assert said.count("it lacks") == 5 and "; and 7 more: give weights of this model (--weights, --evaluate)" in said


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(2), {1: torch.zeros(1)}])
def test_what_is_no_state_dict(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    assert "holds no state_dict: write it with torch.save(" in complaint(nn.Linear(1, 1), tmp_path / "w.pt")


def test_values_beside_tensors_of_the_wrong_kind(tmp_path: Path) -> None:
    torch.save({"weight": 3, "bias": torch.zeros(1)}, tmp_path / "w.pt")
    assert "weight is int there, (1, 1) in the model" in complaint(nn.Linear(1, 1), tmp_path / "w.pt")


# --- MPIManager.evaluate


def linear(seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(8, 4)


def wanted(module: nn.Module) -> dict[str, float]:
    loss = get_loss(CE)
    found = evaluate(module, [(torch.from_numpy(X), torch.from_numpy(Y))], loss, [get_metric("acc")])
    return {f"val_{name}": value for name, value in found.items()}


def manager(comm: Any = None, **options: Any) -> MPIManager:
    given: dict[str, Any] = {"val_list": ["all"], "train_list": None, **options}
    return MPIManager(comm, given.pop("data", Rows(X, Y, 7)), Algo("sgd", lr=0.1, loss=CE), Built(linear), 2,
                      given.pop("train_list"), given.pop("val_list"), output=None, **given)  # fmt: skip


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_manager_evaluates_what_its_builder_builds(ranks: int) -> None:
    made = manager(VirtualWorld(ranks) if ranks > 1 else None)
    assert made.evaluate() == pytest.approx(wanted(linear()))
    assert made.model is None and made.history is None


def test_after_training_it_evaluates_the_trained_model() -> None:
    made = manager(train_list=["all"])
    history = made.train()
    found = made.evaluate()
    assert history is not None and found is not None
    last = history["epochs"][-1]
    assert found == {name: pytest.approx(last[name]) for name in ("val_loss", "val_acc")}
    assert found["val_loss"] < wanted(linear())["val_loss"]


def test_a_generator_of_validation_batches_is_evaluated() -> None:
    made = manager(val_list=None, val_data=Batches(cut(X, Y, [20, 40])))
    assert made.evaluate() == pytest.approx(wanted(linear()))


def test_evaluating_without_validation_data_is_refused() -> None:
    for comm in (None, VirtualWorld(2)):
        with pytest.raises(OptionsError, match=r"nothing to evaluate on.*--val-data"):
            manager(comm, val_list=None).evaluate()


def test_data_that_do_not_fit_are_refused() -> None:
    with pytest.raises(OptionsError, match=r"cannot take input \(\d+, 5\)"):
        manager(data=Rows(X[:, :5], Y, 7)).evaluate()


# --- the flags


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a file of samples, lists of it, and the weights of a network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TrainingDriver, "together", lambda work, undo: work())
    monkeypatch.setattr(TrainingDriver, "world_comm", lambda: None)
    monkeypatch.setenv("NNLO_DATA", str(tmp_path / "data"))
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    write_h5("a.h5", features=X, labels=Y)
    for name in ("train", "val"):
        Path(f"{name}.list").write_text("a.h5\n")
    torch.save(network().state_dict(), "w.pt")
    return tmp_path


def network() -> nn.Module:
    torch.manual_seed(5)
    return ModelPytorch(None, "mlp", inputs=8, hidden=4, classes=4).build_model()


def left(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as end:
        TrainingDriver.main([*MLP, "--log-level", "warning", *argv])
    return end.value.code, *capsys.readouterr()


def test_training_starts_from_the_weights(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [*DATA, "--weights", "w.pt", "--lr", "0", "--epochs", "1", "--trial-name", "t"]
    assert left(capsys, *flags, "--optimizer", "sgd")[0] == 0
    state = torch.load("mlp_t_weights.pt", weights_only=True)
    assert all(torch.equal(value, state[name]) for name, value in network().state_dict().items())
    assert json.loads(Path("mlp_t_history.json").read_text())["arguments"]["weights"] == "w.pt"


def test_evaluating_prints_the_figures_and_leaves_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.rglob("*"))
    code, out, err = left(capsys, "--evaluate", "w.pt", "--val-data", "val.list")
    found = wanted(network())
    assert (code, err) == (0, "")
    assert out == f"mlp: val_loss {found['val_loss']:.4f}, val_acc {found['val_acc']:.4f} (w.pt)\n"
    assert sorted(folder.rglob("*")) == before


def test_evaluating_takes_the_ready_made_test_samples(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(ModelPytorch(None, "mnist").build_model().state_dict(), "m.pt")
    code, out, _ = left(capsys, "--model", "mnist", "--model-params", "dense=50", "--evaluate", "m.pt")
    assert code == 0 and out.startswith("mnist: val_loss 2.")
    data = H5Data(50)
    assert f"val_acc {accuracy_on_digits(data):.4f}" in out


def accuracy_on_digits(data: H5Data) -> float:
    x, y = data.load_data("data/digits/test_000.h5")
    model = ModelPytorch(None, "mnist", "m.pt").build_model().eval()
    with torch.no_grad():
        guessed = model(torch.from_numpy(np.asarray(x))).argmax(1).numpy()
    return float((guessed == np.asarray(y).argmax(1)).mean())


def test_the_exported_model_is_among_the_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = left(capsys, *DATA, "--epochs", "1", "--trial-name", "t", "--export", "torchscript")
    assert code == 0 and "  mlp_t_model.torchscript.pt\n" in out
    assert torch.jit.load("mlp_t_model.torchscript.pt")(torch.from_numpy(X)).shape == (60, 4)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([*DATA, "--export", "pickle"], "--export: unknown export format 'pickle': choose one of onnx"),
        ([*DATA, "--weights", "gone.pt"], "weights file 'gone.pt' is not there: give a .safetensors or .pt file"),
        ([*DATA, "--weights", "w.pt", "--model-params", "inputs=8,hidden=5,classes=4"], "1.weight is (4, 8) there, (5"),
        ([*DATA, "--weights", "w.pt", "--model-params", "inputs=8,hidden=5,classes=4"], "or the --model-params that"),
        ([*DATA, "--weights", "a.h5"], "'a.h5' is no .safetensors or .pt file of weights: give one (--weights, --ev"),
        (["--evaluate", "gone.pt", "--val-data", "val.list"], "weights file 'gone.pt' is not there"),
        (["--evaluate", "w.pt", "--val-data", "gone.list"], "--val-data gone.list"),
        (["--evaluate", "w.pt", *DATA], "there is nothing to evaluate on: name a list of files (--val-data)"),
        (["--evaluate", "w.pt", "--weights", "w.pt"], "--weights and --evaluate both name weights"),
        (["--evaluate", "w.pt", "--export", "onnx"], "--export keeps a model that was trained"),
    ],
)
def test_wrong_use_is_one_line(argv: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(folder.rglob("*"))
    code, out, err = left(capsys, *argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert sorted(folder.rglob("*")) == before
