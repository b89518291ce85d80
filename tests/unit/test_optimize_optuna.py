"""Optuna's samplers: as Optuna itself would have it, from any record; and the journal for its dashboard."""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnlo.errors import OptionsError
from nnlo.optimize.searchers import SEARCHERS, Asked, Told
from nnlo.optimize.searchers.optuna import Optuna, history
from nnlo.optimize.searchers.optuna_journal import OptunaJournal
from nnlo.optimize.trial import Status, Trial
from tests.searching import MIXED, SQUARE, cmaes, optuna, points, quadratic, search, told

SAMPLERS = ("tpe", pytest.param("cmaes", marks=cmaes), "nsga2")
SEED = 3


@pytest.fixture
def studies(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All studies that are made, in order."""
    package, made = importlib.import_module("optuna"), []
    original = package.create_study

    def create_study(**settings: Any) -> Any:
        made.append(original(**settings))
        return made[-1]

    monkeypatch.setattr(package, "create_study", create_study)
    return made


def some(costs: list[float | None]) -> list[Told]:
    return told(costs, MIXED, np.random.default_rng(1).random((len(costs), 4)))


def by_optuna_itself(sampler: str, trials: int, blocks: int = 3) -> list[dict[str, Any]]:
    """The search of `tests.searching`, asked of Optuna."""
    package = importlib.import_module("optuna")
    kinds = {
        "tpe": lambda seed: package.samplers.TPESampler(seed=seed, constant_liar=True),
        "cmaes": lambda seed: package.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
        "nsga2": lambda seed: package.samplers.NSGAIISampler(seed=seed),
    }
    seed = np.random.default_rng(np.random.SeedSequence([SEED, 21, 0])).integers(2**32)
    study = package.create_study(sampler=kinds[sampler](int(seed)))
    running: list[Any] = []
    for number in range(trials):
        if len(running) == blocks:
            over = running.pop((number * 7) % blocks)
            study.tell(over, quadratic(over.params))
        trial = study.ask()
        trial.suggest_float("x", -2, 2)
        trial.suggest_float("y", 0, 10)
        running.append(trial)
    return [trial.params for trial in study.trials]


@optuna
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_points_are_those_of_optuna(sampler: str) -> None:
    """Up to the first that it would try again, as NSGA-II does after its 50 random ones."""
    wanted = by_optuna_itself(sampler, 70 if sampler == "nsga2" else 30)
    new = next((place for place, point in enumerate(wanted) if point in wanted[:place]), len(wanted))
    assert points(search(Optuna(SQUARE, SEED, new, sampler=sampler), quadratic, new)) == wanted[:new]
    assert new == {"nsga2": 64}.get(sampler, 30)


@optuna
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_study_that_is_kept_and_one_made_anew_ask_for_the_same(sampler: str, studies: list[Any]) -> None:
    askings = search(Optuna(MIXED, SEED, 20, sampler=sampler), lambda point: point["lr"], 20)
    assert len(studies) == 1 and len(studies[0].trials) == 20
    for asking in askings[::4]:
        fresh = Optuna(MIXED, SEED, 20, sampler=sampler)
        assert fresh.ask(asking.number, asking.ended, asking.running) == asking.answer


@optuna
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_study_goes_by_the_record_where_it_would_have_asked_otherwise(sampler: str, studies: list[Any]) -> None:
    ended = some([3.0, None, -1.0, math.nan, 0.0])
    running = [Asked(5, MIXED.sample(np.random.default_rng(9)), 2)]
    MIXED.check(Optuna(MIXED, SEED, 20, sampler=sampler).ask(6, ended, running))
    states = importlib.import_module("optuna").trial.TrialState
    known = [trial for trial in studies[-1].trials if trial.params in [one.parameters for one in [*ended, *running]]]
    assert [trial.params for trial in known] == [one.parameters for one in [*ended, *running]]
    assert [trial.value for trial in known] == [3.0, None, -1.0, None, 0.0, None]
    failed, done = states.FAIL, states.COMPLETE
    assert [trial.state for trial in known] == [done, failed, done, failed, done, states.RUNNING]


def test_what_happened_in_order() -> None:
    """A trial asked for after two had ended comes between the second and the third to end."""
    ended = [Told(1, {"x": 1}, 0, 0.5), Told(0, {"x": 0}, 0, None), Told(3, {"x": 3}, 2, 0.0)]
    running = [Asked(2, {"x": 2}, 1), Asked(4, {"x": 4}, 2), Asked(5, {"x": 5}, 3)]
    found = [(type(event).__name__, event.number) for event in history(ended, running)]
    wanted = "asked 0, asked 1, told 1, asked 2, told 0, asked 3, asked 4, told 3, asked 5"
    assert ", ".join(f"{kind.lower()} {number}" for kind, number in found) == wanted
    assert history([], []) == []


@pytest.mark.parametrize("package", ["optuna", pytest.param("cmaes", marks=optuna)])
def test_a_package_that_is_not_there(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(OptionsError) as refused:
        SEARCHERS["optuna"](MIXED, 0, 10, sampler="cmaes")
    assert str(refused.value) == f"--hyper-opt optuna needs {package}: pip install 'nnlo[optuna]'"


def test_an_unknown_sampler() -> None:
    with pytest.raises(OptionsError, match="--optuna-sampler: unknown sampler 'cma': choose one of tpe, cmaes, nsga2"):
        Optuna(MIXED, 0, 10, sampler="cma")


@optuna
@pytest.mark.parametrize("less_is_better", [True, False])
def test_the_journal_holds_all_trials_that_ended(tmp_path: Path, less_is_better: bool) -> None:
    path = tmp_path / "optuna.jsonl"
    path.write_text("another search\n")
    rng = np.random.default_rng(2)
    trials = [
        Trial(0, MIXED.sample(rng), Status.DONE, figure=0.75, figures=(0.5, 0.75), block=2, seconds=1.5),
        Trial(2, MIXED.sample(rng), Status.FAILED, reason="ran out of memory"),
        Trial(1, MIXED.sample(rng), Status.PRUNED, figure=0.25, figures=(0.25,), reason="below the median"),
    ]
    journal = OptunaJournal(path, MIXED, "mnist", less_is_better)
    for trial in trials:
        journal.write(trial)
    assert all(json.loads(line) for line in path.read_text().splitlines())

    package = importlib.import_module("optuna")
    backend = package.storages.journal.JournalFileBackend(str(path))
    study = package.load_study(study_name="mnist", storage=package.storages.JournalStorage(backend))
    assert study.direction.name == ("MINIMIZE" if less_is_better else "MAXIMIZE")
    found = study.trials
    assert [one.params for one in found] == [one.parameters for one in trials]
    assert [one.state.name for one in found] == ["COMPLETE", "FAIL", "PRUNED"]
    assert [one.intermediate_values for one in found] == [{1: 0.5, 2: 0.75}, {}, {1: 0.25}]
    assert [one.value for one in found] == [0.75, None, 0.25]
    assert [one.user_attrs["number"] for one in found] == [0, 2, 1]
    assert (found[0].user_attrs["seconds"], found[1].user_attrs["reason"]) == (1.5, "ran out of memory")
