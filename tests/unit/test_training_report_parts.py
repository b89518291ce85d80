"""The parts of a report that only some runs have: the training set, the workers' weights, load, options and seeds."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import pytest

from nnlo.algos import MODES
from nnlo.drivers import TrainingDriver
from nnlo.options import plain
from nnlo.training.report import page
from nnlo.training.report.configuration import circumstances, defaults, options
from nnlo.training.report.load import load
from tests.reports import EVIL, full, read, rows

GIB = 2**30


def measured(run: dict[str, Any]) -> dict[str, Any]:
    """With the training set measured: figures are 4/epoch."""
    for entry in run["epochs"]:
        entry["training_set"] = {"loss": 4 / entry["epoch"], "acc": 4 / entry["epoch"]}
    return run


def sampled(*ranks: str, **figures: list[Any]) -> dict[str, Any]:
    """The same samples of each rank, at whole seconds from 1."""
    length = max(map(len, figures.values()))
    return full(monitor={rank: {"seconds": list(range(1, length + 1)), **figures} for rank in ranks})


def test_what_is_not_there_is_not_told() -> None:
    texts = " ".join(read(full()).texts)
    for part in ("training set", "Last weights", "Load", "Stopped", "Seeds", "in all;", "mean over the epoch"):
        assert part not in texts


def test_what_has_a_place_of_its_own_is_not_listed_again() -> None:
    own = {"stop_reason": "r", "seeds": {"model": 1}, "workers": {"1": {"samples": 3}}, "monitor": {"0": {}}}
    assert circumstances(full(**own)) == circumstances(full())


def test_the_training_set_has_its_line_its_columns_and_its_words() -> None:
    source, texts = page(measured(full())), read(measured(full())).texts
    assert texts.count("training set, measured at the epoch's end") == 2
    assert texts.count("training, mean over the epoch") == 2
    assert re.findall('class="(whole|training|validation)" d=', source)[:3] == ["training", "whole", "validation"]
    assert "training set acc, epoch 2: 2" in source
    assert "its best value; 1.333 on the training set at the end" in texts
    said = rows(measured(full()))
    assert any("val_acc training set loss training set acc staleness" in row for row in said)
    assert any("1.000 1.000 2.000 2.000 1.00 (2)" in row for row in said)


def test_an_epoch_without_the_training_set_is_a_gap() -> None:
    run = measured(full())
    run["epochs"][0]["training_set"] = None
    run["epochs"][1]["training_set"]["loss"] = None
    assert "training set loss, epoch 3" in page(run) and "training set loss, epoch 2" not in page(run)


def test_why_it_stopped_is_said_under_the_headline() -> None:
    texts = read(full(outcome="stopped", stop_reason="--early-stopping val_loss,<,3: no better")).texts
    assert texts[texts.index("stopped") + 1] == "Stopped: --early-stopping val_loss,<,3: no better"
    assert "Stopped" not in page(full(stop_reason=None))


def test_the_times_explain_one_another() -> None:
    texts = read(full(seconds=6.25)).texts
    assert texts[texts.index("Time") + 1 :][:2] == ["6.00 s", "3 epochs; 6.25 s in all"]
    assert texts[texts.index("time in all") + 1] == "6.25 s"


def test_the_last_weights_of_each_worker() -> None:
    workers = {
        "10": {"samples": 0},
        "2": {"samples": 1200, "loss": 0.25, "acc": 0.5},
        "3": {"samples": 1, "loss": None},
    }
    said = rows(full(workers=workers))
    first = said.index("rank samples loss acc")
    assert said[first + 1 : first + 4] == ["2 1,200 0.2500 0.5000", "3 1 – –", "10 0 – –"]  # noqa: RUF001
    many = {str(rank): {"samples": 0} for rank in range(1, 22)}
    assert "All 21 workers" in read(full(workers=many)).texts


def test_load_of_few_ranks_is_a_line_each() -> None:
    run = sampled("10", "0", cpu_percent=[50.0, 150.0], memory_bytes=[GIB, 3 * GIB])
    cpu, memory = load(run)
    assert (cpu.title, memory.title) == ("CPU, %", "Memory, GiB")
    assert [name for _, name in cpu.legend] == ["rank 0 (master)", "rank 10"]
    assert "rank 10, seconds 2: 3<" in memory.picture and "rank 10, seconds 2: 150<" in cpu.picture
    assert {"Load", "CPU, %", "Memory, GiB"} <= set(read(run).texts)


def test_load_of_many_ranks_is_a_mean_and_a_range() -> None:
    ranks = [str(rank) for rank in range(9)]
    assert len(load(sampled(*ranks[:8], cpu_percent=[1.0]))[0].legend) == 8
    run = sampled(*ranks, cpu_percent=[50.0, 50.0])
    run["monitor"]["8"] = {"seconds": [0.5, 2.5], "cpu_percent": [95.0, 5.0]}
    (chart,) = load(run)
    assert [name for _, name in chart.legend] == ["mean of 9 ranks", "lowest to highest"]
    assert str(chart.picture).count('class="band"') == 1 and str(chart.picture).count('class="training"') == 1
    heights = [float(height) for height in re.findall(r"[ML][\d.]+ ([\d.]+)", str(chart.picture))]
    middle = re.search(r'class="training" d="M[\d.]+ ([\d.]+)', str(chart.picture))
    assert middle and heights and min(heights) < float(middle[1]) < max(heights)


def test_each_gpu_is_drawn_once() -> None:
    run = sampled("0", "1", "2", gpu0_percent=[10, 20], gpu0_memory_bytes=[GIB, GIB], **{"gpuGPU-a1_percent": [1, 2]})
    gpu, memory = load(run)
    assert (gpu.title, memory.title) == ("GPU, %", "GPU memory, GiB")
    assert [name for _, name in gpu.legend] == [
        "GPU 0 of alpha", "GPU GPU-a1 of alpha", "GPU 0 of beta", "GPU GPU-a1 of beta"
    ]  # fmt: skip
    assert [name for _, name in memory.legend] == ["GPU 0 of alpha", "GPU 0 of beta"]


def test_load_with_holes_is_drawn_as_far_as_it_is_known() -> None:
    run = sampled("0", cpu_percent=[None, 7.0, math.nan], memory_bytes=[None, None, None], gpu0_percent=[None])
    (chart,) = load(run)
    assert re.findall("<title>(.*?)</title>", str(chart.picture)) == ["rank 0 (master), seconds 2: 7"]
    assert load(full(monitor={"0": {}})) == load(full(monitor={})) == load(full(monitor=None)) == []


def test_a_run_that_failed_before_its_first_epoch_shows_its_load() -> None:
    texts = read({**sampled("0", cpu_percent=[1.0, 2.0]), "epochs": [], "outcome": "failed: no"}).texts
    assert "Load" in texts and "The run ended before its first epoch did." in texts


def test_options_at_their_defaults_come_last() -> None:
    given = {
        "mode": "downpour", "batch": 64, "loss": "mse", "metrics": [], "seed": 12345, "epochs": 10, "sync_every": 1,
        "csv": False, "save_model": False, "lr": None, "schedule": {"name": "constant", "warmup": 0.0}, "mine": 0.5,
    }  # fmt: skip
    chosen, left = options(full(arguments=given))
    assert chosen == [
        ("--batch", "64"), ("--loss", "mse"), ("--seed", "12345"), ("--save-model", "off"), ("--mine", "0.5")
    ]  # fmt: skip
    assert [flag for flag, _ in left] == ["--mode", "--epochs", "--sync-every", "--csv", "--schedule"]
    texts = read(full(arguments=given)).texts
    assert texts.index("--mine") < texts.index("5 more, at their defaults") < texts.index("--mode")
    assert options({"epochs": [], "arguments": {"mode": "gone", "sync_every": 1}})[0] == [
        ("--mode", "gone"), ("--sync-every", "1")
    ]  # fmt: skip


def test_the_defaults_are_those_of_the_driver() -> None:
    line, known = TrainingDriver.command(), defaults("downpour")
    fields = [field for action in line.parser._actions if (field := line.field(action.dest))]
    own = {field.name for field in dataclasses.fields(MODES["downpour"].options)}
    of_modes = {field.name for name in MODES for field in dataclasses.fields(MODES[name].options)}
    fields = [field for field in fields if field.name not in of_modes - own]
    inherited = {"backend", "thread_validation"}
    missing = [field.name for field in fields if field.name not in known and field.name not in inherited]
    assert [name for name in missing if plain(next(f for f in fields if f.name == name).default)] == []
    assert known["batch"] == 100 and "--batch" not in [flag for flag, _ in options(full(arguments=known))[0]]


def test_seeds_are_folded_and_plain() -> None:
    run = full(seeds={"model": 7896617691693857887, "shuffle": 1, "ranks": {"0": 2918264622725855778}})
    texts = read(run).texts
    first = texts.index("Seeds of the random streams")
    assert texts[first + 1 :] == ["model", "7896617691693857887", "shuffle", "1", "rank 0", "2918264622725855778"]
    assert page(run).count("7896617691693857887") == 1 and "details" in read(run).tags


@pytest.mark.parametrize(
    "change",
    [
        {"stop_reason": EVIL},
        {"seeds": {EVIL: EVIL, "ranks": {EVIL: EVIL}}},
        {"workers": {EVIL: {"samples": 1, EVIL: 0.5}}},
        {"hosts": [EVIL], "monitor": {"0": {"seconds": [1, 2], "gpu0_percent": [1, 2], "cpu_percent": [3, 4]}}},
        {"monitor": {EVIL: {"seconds": [1], "cpu_percent": [3]}, "1": {"seconds": [1], "cpu_percent": [3]}}},
    ],
)
def test_names_of_these_parts_are_escaped(change: dict[str, Any]) -> None:
    seen = read(full(**change))
    assert "script" not in seen.tags and any(EVIL in said for said in seen.texts)
