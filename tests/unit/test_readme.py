"""What the README shows is what there is: its code runs, its flags exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nnlo import Algo, H5Data, ModelPytorch, MPIManager
from nnlo.algos import MODES
from nnlo.data.prepare import prepare
from nnlo.drivers import ExperimentDriver, OptimizationDriver, TrainingDriver
from nnlo.drivers.TrainingDriver import command
from nnlo.model import load_model
from nnlo.optimize.space_file import space_of_file
from nnlo.training.arguments import names_for_models
from tests.driving import prepare_folder, run_driver

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


YAML = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
"""A file of options, and a search space."""


def block(word: str) -> str:
    (found,) = [text for text in BLOCKS if word in text]
    return found


def test_the_example_is_the_file() -> None:
    assert block("class Spirals").strip() == (ROOT / "examples" / "own_model.py").read_text().strip()


def test_every_flag_exists() -> None:
    flags = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    elsewhere = {"--source", "--rounds", "--workloads", "--out", "--with-ft"}  # of GetData, benchmarks and mpirun
    lines = command(), OptimizationDriver.command(), ExperimentDriver.command()
    known = {option for line in lines for action in line.parser._actions for option in action.option_strings}
    assert flags - elsewhere <= known
    assert len(flags & known) > 8


def settings_of_modes() -> list[str]:
    """The flags of the table of accuracies, each set of them in backquotes."""
    table = README.partition("| flags | `val_acc` |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `--")]
    return [flags for row in rows for flags in re.findall(r"`(--[^`]*)`", row)]


@pytest.mark.parametrize("flags", settings_of_modes())
def test_the_settings_of_the_table_of_modes_train(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_folder(tmp_path, monkeypatch)
    run_driver("--epochs", "1", *flags.split())


def test_every_mode_has_settings() -> None:
    assert set(MODES) == {"downpour", *re.findall(r"--mode (\w+)", str(settings_of_modes()))}


def test_the_search_space_is_one_of_the_model_and_of_training(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(YAML[1])
    names = space_of_file(tmp_path / "space.yaml").names
    assert {*names} - {*load_model("mnist").parameters} == {"lr", "optimizer"} <= names_for_models()


def test_the_files_and_the_model_file_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my_model.py").write_text(block("def get_train"))
    exec(compile(block("h5py.File"), "README", "exec"), {})
    builder = ModelPytorch(None, "my_model.py")
    data, algo = H5Data(64, "images", "targets"), Algo("adam", lr=0.01, loss="mse")
    lists = builder.source.train_list, builder.source.val_list
    history = MPIManager(None, data, algo, builder, 5, *lists, trial_name="first").train()
    assert history is not None
    assert history["epochs"][-1]["val_loss"] < 0.8 * history["epochs"][0]["val_loss"]


@pytest.mark.parametrize("by", ["the line", "the file of options", "flags"])
def test_the_command_on_ones_own_files(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_folder(tmp_path, monkeypatch)
    for path in tmp_path.iterdir():
        path.unlink()
    Path("my_model.py").write_text(block("def get_train"))
    exec(compile(block("h5py.File"), "README", "exec"), {})
    (line,) = re.findall(r"mpirun -np 3 TrainingDriver --model my_model.py (.*)", README)
    config, _ = YAML
    Path("options.yaml").write_text(config)
    (flags,) = re.findall(r"The same without these functions: `(.*)`\.", README)
    words = {"the line": f"--model my_model.py {line}", "the file of options": "--config options.yaml"}
    with pytest.raises(SystemExit) as left:
        TrainingDriver.main(words.get(by, f"--model my_model.py {flags} --epochs 2").split())
    assert left.value.code == 0
    assert len(list(tmp_path.glob("my_model_*_history.json"))) == 1


def test_what_a_run_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    digits = prepare("digits", tmp_path)
    lists = digits.train_list, digits.test_list
    MPIManager(None, H5Data(200), Algo("adam"), ModelPytorch(None, "mnist"), 1, *lists, trial_name="first").train()
    named = set(re.findall(r"mnist_first_[a-z]+\.[a-z]+", README))
    assert named == {path.name for path in tmp_path.glob("mnist_first_*")}
    exec(compile(block("load_state_dict"), "README", "exec"), {})
    assert len(eval(capsys.readouterr().out)) == 1


def test_the_virtual_clock(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block("VirtualWorld"), "README", "exec"), {})
    staleness = eval(capsys.readouterr().out)
    assert staleness["max"] >= 7
