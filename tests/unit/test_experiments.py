"""Files of experiments: what they say, what they are refused for, and what becomes of their runs."""

from __future__ import annotations

import csv
import datetime
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nnlo.drivers import ExperimentDriver, PlotResults
from nnlo.drivers.ExperimentDriver import TrainingOptions
from nnlo.errors import DataError, OptionsError
from nnlo.experiments.delays import delay_of, drawn
from nnlo.experiments.document import Document
from nnlo.experiments.experiment import Experiment
from nnlo.experiments.files import ExperimentFiles
from nnlo.experiments.results import Result, placed, read_result, rises, spread, typical
from nnlo.experiments.summary import as_csv, as_text
from nnlo.experiments.sweep import grid, slug

SMALL = """
experiment:
  workers: 3
  model: mlp
  batch: 50
  epochs: 2
  seed: 4
runs:
  - name: graph
    mode: dsgt
    lr: [0.05, 0.1]
  - name: server
    mode: downpour
    optimizer: sgd
    lr: 0.05
"""


def document(tmp_path: Path, text: str) -> Document:
    path = tmp_path / "some.yaml"
    path.write_text(text)
    return Document(path)


def experiment(tmp_path: Path, text: str) -> Experiment:
    return Experiment.read(document(tmp_path, text), TrainingOptions())


# What a file says.


def test_lists_stand_for_runs(tmp_path: Path) -> None:
    runs = experiment(tmp_path, SMALL).runs
    assert [run.name for run in runs] == ["graph lr=0.05", "graph lr=0.1", "server"]
    assert [run.options["lr"] for run in runs] == [0.05, 0.1, 0.05]
    assert all(run.options["epochs"] == 2 and run.options["seed"] == 4 for run in runs)
    assert [run.file for run in runs] == ["graph_lr=0.05.json", "graph_lr=0.1.json", "server.json"]


def test_what_a_run_says_wins_over_what_all_have_in_common(tmp_path: Path) -> None:
    (run,) = experiment(tmp_path, "experiment: {epochs: 3, batch: 10}\nruns: [{name: one, batch: 20}]").runs
    assert run.options == {"epochs": 3, "batch": 20}


def test_a_grid() -> None:
    found = list(grid("x", {"a": [1, 2], "b": [0.5, 1e-5], "c": [3, 4]}, lambda name: name != "c"))
    assert [name for name, _ in found] == ["x a=1 b=0.5", "x a=1 b=1e-05", "x a=2 b=0.5", "x a=2 b=1e-05"]
    assert found[3][1] == {"a": 2, "b": 1e-5, "c": [3, 4]}


def test_an_option_whose_value_is_a_list_is_no_sweep(tmp_path: Path) -> None:
    (run,) = experiment(tmp_path, "runs: [{name: one, metrics: [acc, mse]}]").runs
    assert run.options["metrics"] == ("acc", "mse")


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    """YAML 1.1 takes 5e-3 for a text."""
    runs = experiment(tmp_path, "runs: [{name: a, lr: [5e-3, 1e-2]}]").runs
    assert [run.options["lr"] for run in runs] == [5e-3, 1e-2]


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("experiment: {epochs: 2}", 1, "expected 'experiment:' and 'runs:', and nothing else beside them"),
        ("runs: [{name: a}]\nmore: 1", 1, "expected 'experiment:' and 'runs:'"),
        ("runs: []", 1, "expected a list of runs, each with a name"),
        ("runs:\n  - name: a\n  - mode: dsgd\n", 3, "a run needs a name"),
        ("runs:\n  - name: a\n    modus: dsgd\n", 3, "unknown option 'modus'.*did you mean"),
        ("runs:\n  - name: a\n    epochs: many\n", 3, "--epochs must be a whole number, not 'many'"),
        ("runs:\n  - name: a\n    epochs: 0\n", 3, "--epochs must be at least 1"),
        ("runs:\n  - name: a\n    lr: []\n", 3, "lr: an empty list stands for no run"),
        ("runs:\n  - name: a\n    mode: dsgdd\n", 3, "--mode: unknown value 'dsgdd': choose one of"),
        ("runs:\n  - name: a b\n  - name: a_b\n", 3, "the run 'a_b' has the name of another one"),
        ("runs:\n  - name: a\n    output: here\n", 3, "'output' is not for an experiment"),
        ("experiment:\n  workers: none\nruns: [{name: a}]", 2, "workers must be a whole number, not 'none'"),
        ("experiment:\n  evaluate_on: test\nruns: [{name: a}]", 2, "evaluate_on: unknown value 'test'"),
        ("experiment:\n  seed: 1\n  seed: 2\nruns: [{name: a}]", 3, "'seed' comes twice: drop one"),
        ("experiment:\n  delays: slow\nruns: [{name: a}]", 2, "delays: unknown kind of delay 'slow'"),
        ("experiment:\n  delays: {kind: constant, std: 1}\nruns: [{name: a}]", 2, "constant has no setting 'std'"),
        ("experiment:\n  costs: {speed: 1}\nruns: [{name: a}]", 2, "costs: unknown setting 'speed'"),
        ("experiment:\n  costs: {latency: -1}\nruns: [{name: a}]", 2, "latency must be a number, at least 0"),
        ("runs: [{name: a", 1, "give a YAML file"),
    ],
)
def test_a_complaint_names_the_line(tmp_path: Path, text: str, line: int, complaint: str) -> None:
    with pytest.raises(OptionsError, match=rf"some\.yaml, line {line}: .*{complaint}"):
        experiment(tmp_path, text)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"nowhere\.yaml: cannot be read"):
        Document(tmp_path / "nowhere.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionsError, match="not a text file"):
        Document(tmp_path / "bytes.yaml")


# Delays.


@pytest.mark.parametrize(
    ("given", "mean"),
    [
        ("none", 0.0),
        ({"kind": "constant", "mean": 0.02}, 0.02),
        ({"kind": "gaussian", "mean": 0.02, "std": 0.001}, 0.02),
        ({"kind": "exponential", "mean": 0.02}, 0.02),
        ({"kind": "straggler", "mean": 0.05, "worker": 2}, 0.05),
    ],
)
def test_delays(given: Any, mean: float) -> None:
    seconds = drawn(delay_of(given), seed=1)
    found = [seconds(2) for _ in range(3000)]
    assert np.mean(found) == pytest.approx(mean, rel=0.06) and min(found) >= 0
    again = drawn(delay_of(given), seed=1)
    for _ in range(10):
        again(1)
    assert [again(2) for _ in range(5)] == found[:5]
    if "straggler" in str(given):
        assert again(1) == 0


def test_a_delay_is_never_less_than_none() -> None:
    seconds = drawn(delay_of({"kind": "gaussian", "mean": 0.0, "std": 1.0}), seed=0)
    found = [seconds(1) for _ in range(100)]
    assert min(found) == 0 and Counter(found)[0] > 30


# Results.


def result(name: str = "a", **more: Any) -> Result:
    points = [
        {"samples": 10 * k, "updates": k, "seconds": 0.1 * k, "bytes": 100.0 * k, "val_loss": 1 / k, "val_acc": k / 10}
        for k in (1, 2, 3)
    ]
    epochs = [{"epoch": 1, "updates": 3, "bytes_up": 200, "bytes_down": 100, "staleness": {"histogram": [2, 1]}}]
    known = {"name": name, "options": {}, "outcome": "done", "seconds": 0.3, "workers": 2, "points": points}
    return Result(**{**known, "epochs": epochs, **more})


def test_updates_and_bytes_of_a_point_lie_between_the_ends_of_epochs() -> None:
    epochs = [
        {"samples": 100, "updates": 10, "bytes_up": 50, "bytes_down": 50},
        {"samples": 300, "updates": 20, "bytes_up": 0, "bytes_down": 100},
    ]
    assert placed({"samples": 50}, epochs) == {"samples": 50, "updates": 5.0, "bytes": 50.0}
    assert placed({"samples": 200}, epochs) == {"samples": 200, "updates": 20.0, "bytes": 150.0}
    assert placed({"samples": 300}, epochs) == {"samples": 300, "updates": 30.0, "bytes": 200.0}


def test_a_result_goes_through_its_file(tmp_path: Path) -> None:
    one = result(points=[{"samples": 1, "val_loss": float("nan")}])
    one.write(tmp_path / "one.json")
    assert "NaN" not in (tmp_path / "one.json").read_text()
    assert read_result(tmp_path / "one.json") == result(points=[{"samples": 1, "val_loss": None}])
    (tmp_path / "torn.json").write_text("{")
    with pytest.raises(DataError, match=r"torn\.json: is no result of a run"):
        read_result(tmp_path / "torn.json")


def test_best_values_and_the_nodes() -> None:
    one = result()
    assert (one.best("val_loss"), one.best("val_acc")) == (1 / 3, 0.3)
    assert [rises(name) for name in ("val_acc", "val_loss", "consensus")] == [True, False, False]
    point = {"val_acc": 0.9, "nodes": {"1": {"val_acc": 0.5}, "2": {"val_acc": 0.7}}}
    assert typical(point, "val_acc") == pytest.approx(0.6) and typical({"val_acc": 0.9}, "val_acc") == 0.9
    assert list(spread(result(points=[point]), "val_acc")) == [(0.5, 0.7)]


def test_the_table() -> None:
    lines = list(csv.DictReader(as_csv([result("a"), result("b", points=[])]).splitlines()))
    assert lines[0]["run"] == "a" and lines[0]["updates"] == "3" and lines[0]["bytes"] == "300"
    assert float(lines[0]["best_val_acc"]) == 0.3 and lines[1]["val_acc"] == ""
    text = as_text([result("a"), result("a longer name")]).splitlines()
    assert text[0].startswith("run ") and len({len(line) for line in text}) == 1


def test_names_of_files() -> None:
    assert slug("DiNNO graph=cycle lr=0.005") == "DiNNO_graph=cycle_lr=0.005"
    assert slug("../../etc") == "etc" and slug("///") == "run"


def test_a_folder_of_its_own_day_by_day(tmp_path: Path) -> None:
    """What was begun goes on in its folder on another day; another experiment of that name does not."""
    texts = SMALL, SMALL.replace("seed: 4", "seed: 5")
    first, changed = (experiment(tmp_path, text).in_folder(tmp_path) for text in texts)
    monday, tuesday = datetime.date(2026, 3, 2), datetime.date(2026, 3, 3)
    files = ExperimentFiles(first, monday)
    files.open({"nnlo": "1"})
    assert files.path == tmp_path / "2026-03-02_some"
    assert ExperimentFiles(first, tuesday).path == files.path
    assert ExperimentFiles(changed, tuesday).path == tmp_path / "2026-03-03_some"
    with pytest.raises(OptionsError, match="another experiment of that name was begun today: give it another 'name'"):
        ExperimentFiles(changed, monday)


# The drivers.


def drive(driver: Any, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        driver.main([str(word) for word in words])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_an_experiment_on_the_virtual_clock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that it leaves; what is complete is not run again; the same file gives the same numbers."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace("  seed: 4", "  seed: 4\n  solo: true\n  delays: {kind: straggler, mean: 0.2}"))
    code, out, err = drive(ExperimentDriver, capsys, path, "--virtual", "--folder", tmp_path / "a")
    assert (code, err) == (0, "")
    (folder,) = (tmp_path / "a").iterdir()
    names = ["graph lr=0.05", "graph lr=0.1", "server", "each alone", "one process, all data"]
    assert [line["run"] for line in csv.DictReader((folder / "summary.csv").open())] == names
    assert {one.name for one in folder.iterdir()} == {
        "experiment.yaml", "versions.json", "runs", "figures", "summary.csv", "graph_cycle.txt", "graph_cycle.png",
    }  # fmt: skip
    assert (folder / "graph_cycle.txt").read_text() == "0 1\n0 2\n1 2\n"
    pictures = {one.name for one in (folder / "figures").iterdir()}
    assert {"val_acc.png", "val_loss.png", "consensus.png", "staleness.png"} <= pictures
    resolved = yaml.safe_load((folder / "experiment.yaml").read_text())
    assert [one["name"] for one in resolved["runs"]] == names[:3] and resolved["delays"]["worker"] == 1
    server = read_result(folder / "runs" / "server.json")
    assert server.virtual and server.workers == 3 and server.seconds > 0.2 * 1437 / 50 / 3 / 3
    assert len(server.points) == 2
    assert max(len(entry["staleness"]["histogram"]) for entry in server.epochs) > 5  # of the worker that is delayed

    before = (folder / "runs" / "server.json").stat().st_mtime_ns
    code, out, _ = drive(ExperimentDriver, capsys, path, "--virtual", "--folder", tmp_path / "a")
    assert code == 0 and (folder / "runs" / "server.json").stat().st_mtime_ns == before
    drive(ExperimentDriver, capsys, path, "--virtual", "--folder", tmp_path / "b", "--only", "graph,server")
    (again,) = (tmp_path / "b").iterdir()
    for name in ("graph_lr=0.05.json", "server.json"):
        assert json.loads((again / "runs" / name).read_text()) == json.loads((folder / "runs" / name).read_text())

    picture = tmp_path / "some.png"
    words = (folder, again, "--only", "graph", "--x", "rounds,bytes", "--output", picture)
    code, out, err = drive(PlotResults, capsys, *words)
    assert (code, out, err) == (0, f"{picture}\n", "") and picture.stat().st_size > 10_000
    for words, complaint in (
        ([tmp_path], "holds no results of runs"),
        ([folder, "--metric", "f1"], "--metric f1: the runs have val_loss, val_acc"),
        ([folder, "--only", "z"], "--only z: no run has such a name"),
        ([folder, "--x", "hours"], "--x: unknown value 'hours': choose of epochs, rounds, seconds, bytes"),
        ([folder, "--output", picture], "already there"),
        ([], "name the folder of an experiment"),
    ):
        code, _, err = drive(PlotResults, capsys, *words)
        assert code == 2 and complaint in err and len(err.splitlines()) == 1


WHEEL, RHO = (SMALL.replace("mode: dsgt", f"{option}\n    mode: dsgt") for option in ("graph: wheel", "rho: 1"))


@pytest.mark.parametrize(
    ("text", "words", "complaint"),
    [
        (SMALL, ["--virtual", "--only", "x"], "--only x: no run has such a name: there are graph lr=0.05, graph"),
        (SMALL.replace("  workers: 3\n", ""), ["--virtual"], "line 2: --virtual needs to know how many workers"),
        (SMALL, [], "ExperimentDriver needs ranks: mpirun -np 4 ExperimentDriver ..., or --virtual"),
        (WHEEL, ["--virtual"], "line 9: run 'graph lr=0.05': --graph wheel needs at least 4"),
        (RHO, ["--virtual"], "line 9: run 'graph lr=0.05': --rho is not read by --mode dsgt"),
    ],
)
def test_nothing_runs_where_one_run_cannot(
    text: str, words: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(text)
    code, out, err = drive(ExperimentDriver, capsys, path, *words, "--folder", tmp_path / "a")
    assert (code, out) == (2, "") and complaint in err and len(err.splitlines()) == 1, err
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    (tmp_path / "file").write_text("")
    code, _, err = drive(ExperimentDriver, capsys, path, "--virtual", "--folder", tmp_path / "file")
    assert code == 2 and "cannot be written" in err and len(err.splitlines()) == 1
