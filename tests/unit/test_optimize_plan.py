"""A search that begins, is recorded and goes on: what is refused, what is told, what is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nnlo.errors import OptionsError
from nnlo.optimize.figure import FigureOfMerit
from nnlo.optimize.files import SearchFiles, folder_of
from nnlo.optimize.plan import Plan
from nnlo.optimize.pruners import pruner_of
from nnlo.optimize.search import Outcome, Search
from nnlo.optimize.searchers import SEARCHERS
from nnlo.optimize.space_file import space_of
from nnlo.optimize.trial import Status
from nnlo.optimize.weights import packed_weights
from nnlo.topology import Blocks

SPACE: dict[str, Any] = {"lr": {"low": 0.1, "high": 1.0}, "optimizer": ["sgd", "adam"]}


def plan(folder: Path | None, space: dict[str, Any] = SPACE, pruner: str = "none", **options: Any) -> Plan:
    searcher = SEARCHERS["random"](space_of(space), 0, 6)
    files = SearchFiles(folder, "search", lambda trial: f"train {trial.number}") if folder else None
    return Plan(searcher, pruner_of(pruner, 4, 6), FigureOfMerit.of("loss"), folder=folder, files=files, **options)


def began(made: Plan, clock: Callable[[], float] = lambda: 0.0) -> Search:
    return made.make(clock)[0]


def work_on(search: Search, figure: float | None) -> int:
    """Have the next trial done, with that figure, or fail."""
    search.propose(search.question()[0], len(search.ended), search.searcher.ask(*search.question()))
    work = search.next_work(1)
    assert work is not None
    if figure is None:
        search.end(work.number, Outcome(Status.FAILED, reason="on purpose"))
    else:
        search.epoch(work.number, 1, work.until, figure)
        search.end(work.number, Outcome(Status.DONE))
    return work.number


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    first = began(plan(tmp_path))
    for figure in (0.5, None, 0.25):
        work_on(first, figure)
    first.propose(3, 3, first.searcher.ask(*first.question()))
    running = first.next_work(2)
    first.close()
    again = began(plan(tmp_path, restore=True), lambda: 1.0)
    assert again.trials == first.trials and again.ended == [0, 1, 2]
    assert again.next_work(1) == running, "what was running is done first"
    assert again.best and (again.best.number, again.best.figure) == (2, 0.25)
    assert again.question() == first.question()


def test_where_there_is_none_it_begins(tmp_path: Path) -> None:
    assert not began(plan(tmp_path / "new", restore=True)).trials


def test_another_search_is_not_overwritten(tmp_path: Path) -> None:
    search = began(plan(tmp_path))
    work_on(search, 0.5)
    search.close()
    folder_of(tmp_path, 0).mkdir()
    (tmp_path / "trial-notes").mkdir()
    (tmp_path / "best_weights.pt").touch()
    with pytest.raises(OptionsError, match=r"trials.jsonl: there is a search: give --opt-restore .*or --overwrite"):
        began(plan(tmp_path))
    assert not began(plan(tmp_path, overwrite=True)).trials
    assert {path.name for path in tmp_path.iterdir()} == {"trials.jsonl", "trial-notes"}


@pytest.mark.parametrize(
    ("space", "settings", "said"),
    [
        ({**SPACE, "lr": {"low": 0.2, "high": 1.0}}, {}, r"lr: low is 0.2 \(was 0.1\)"),
        ({"lr": SPACE["lr"]}, {}, "optimizer is gone"),
        (SPACE, {"training": {"epochs": 3, "lr": 0.1}}, r"epochs is 3 \(was 2\); lr is 0.1 \(was None\)"),
    ],
)
def test_a_search_of_something_else_is_refused(
    space: dict[str, Any], settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    began(plan(tmp_path, settings={"training": {"epochs": 2}} if settings else {}))
    with pytest.raises(OptionsError, match=f"--opt-restore: .*is of another search: {said}"):
        began(plan(tmp_path, space, restore=True, settings=settings))


def test_trials_that_rest_need_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match="need a folder"):
        plan(None, pruner="asha:reduction=2").folder_of_checkpoints(False)
    assert plan(tmp_path, pruner="asha:reduction=2").folder_of_checkpoints(False) == tmp_path
    assert plan(tmp_path).folder_of_checkpoints(False) is None


def test_files_are_there_at_any_time(tmp_path: Path) -> None:
    made = plan(tmp_path)
    search, watcher = made.make(lambda: 0.0)
    module = torch.nn.Linear(2, 1)
    number = work_on(search, 0.5)
    folder_of(tmp_path, number).mkdir()
    watcher.ended(search.trials[number], packed_weights(module))
    assert not folder_of(tmp_path, number).exists()
    assert (tmp_path / "results.csv").read_text().count("\n") == 2
    kept = load_file(tmp_path / "best_weights.safetensors")
    plain = torch.load(tmp_path / "best_weights.pt", weights_only=True)
    assert all(torch.equal(kept[name], value) and torch.equal(plain[name], value) for name, value in kept.items())
    assert torch.equal(kept["weight"], module.weight)
    watcher.over()
    assert (tmp_path / "best_command.sh").read_text() == "train 0\n"


def test_another_program_is_told_of_each_trial_that_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a search that goes on too, and those that rested and were not worth going on with."""
    told: list[tuple[int, Status]] = []
    noted = lambda self, folder, less: lambda trial: told.append((trial.number, trial.status))  # noqa: E731
    monkeypatch.setattr(SEARCHERS["random"], "journal", noted)
    search, watcher = plan(tmp_path, pruner="asha:reduction=2").make(lambda: 0.0)
    for figure in (0.5, None):
        work_on(search, figure)
        watcher.changed()
    search.propose(2, 2, search.searcher.ask(*search.question()))
    work = search.next_work(1)
    assert work is not None and search.epoch(2, 1, work.until, 0.9)
    search.end(2, Outcome(Status.RESTING))
    search.finish()
    watcher.over()
    assert told == [(0, Status.DONE), (1, Status.FAILED), (2, Status.PRUNED)]
    search.close()
    plan(tmp_path, pruner="asha:reduction=2", restore=True).make(lambda: 0.0)[1].changed()
    assert told[3:] == told[:3]


@pytest.mark.parametrize(("ranks", "size", "blocks"), [(7, 3, 2), (3, 2, 1), (129, 2, 64)])
def test_ranks_divide_into_blocks(ranks: int, size: int, blocks: int) -> None:
    plan = Blocks.of(ranks, size)
    assert plan.count == blocks
    found = [plan.block(rank) for rank in range(ranks)]
    assert found == [0, *(block for block in range(1, blocks + 1) for _ in range(size))]
    assert [found.index(block) for block in range(1, blocks + 1)] == [
        plan.head(block) for block in range(1, blocks + 1)
    ]


@pytest.mark.parametrize(
    ("ranks", "size", "said"),
    [
        (6, 3, "6 ranks are not a coordinator and blocks of 3: start 4 or 7"),
        (1, 2, "1 rank is not a coordinator and blocks of 2: start 3 or 5"),
        (2, 2, "2 ranks are not a coordinator and blocks of 2: start 3 or 5"),
        (7, 1, "--block-size must be at least 2"),
    ],
)
def test_ranks_that_do_not_divide(ranks: int, size: int, said: str) -> None:
    with pytest.raises(OptionsError, match=said):
        Blocks.of(ranks, size)
