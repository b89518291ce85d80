"""A coordinator and its blocks on the virtual clock: every trial is made once, by blocks that are never idle."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from nnlo.comm.base import Transport
from nnlo.comm.costs import Costs, Fault, FaultKind
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import Preempted, TrainingError
from nnlo.optimize.block import Talk, Trainer, Weights
from nnlo.optimize.coordinator import Watcher
from nnlo.optimize.dimensions import Real
from nnlo.optimize.figure import FigureOfMerit
from nnlo.optimize.plan import searched
from nnlo.optimize.pruners import pruner_of
from nnlo.optimize.search import Limits, Outcome, Say, Search, Work
from nnlo.optimize.searchers import SEARCHERS
from nnlo.optimize.space import Space
from nnlo.optimize.trial import Status, Trial
from nnlo.topology import Blocks
from nnlo.training.signals import Signals

EPOCHS = 9
SPACE = Space([Real("x", 0.0, 1.0)])


class Curves(Trainer):
    """Trials whose figure in epoch e is x + 1 / e; an epoch takes a second, or as long as `seconds` says."""

    def __init__(self, fails: Callable[[Work], bool] = lambda work: False, epochs: int = EPOCHS) -> None:
        self.fails, self.epochs = fails, epochs
        self.trained: list[tuple[int, int]] = []

    async def train(self, group: Transport, work: Work, talk: Talk | None) -> tuple[Outcome | None, Weights | None]:
        if talk is None:
            return None, None
        for epoch in range(work.known + 1, self.epochs + 1):
            await group.compute(lambda: None, 1)
            self.trained.append((work.number, epoch))
            if self.fails(work):
                return Outcome(Status.FAILED, reason="on purpose"), None
            verdict = await talk.epoch(epoch, work.parameters["x"] + 1 / epoch)
            if verdict.say is not Say.ON:
                break
        status = {Say.ON: Status.DONE, Say.REST: Status.RESTING, Say.STOP: Status.PRUNED}
        if talk.last.say is Say.LEAVE:
            return Outcome(Status.RUNNING, reason=talk.last.reason), None
        return Outcome(status[talk.last.say], reason=talk.last.reason), lambda: str(work.number).encode()


def search_here(
    blocks: int,
    trials: int,
    trainer: Trainer,
    *,
    searcher: str = "random",
    pruner: str = "none",
    seed: int = 0,
    limits: Limits | None = None,
    compute: Any = 1.0,
    before: list[Trial] | None = None,
    signals: Signals | None = None,
    faults: Sequence[Fault] = (),
    watcher: Watcher | None = None,
) -> Search:
    """A search on blocks of two ranks each."""
    world = VirtualWorld(1 + 2 * blocks, costs=Costs(compute=compute, notice=0.5), faults=faults)

    def make(clock: Callable[[], float]) -> tuple[Search, Watcher]:
        chosen = SEARCHERS[searcher](SPACE, seed, trials)
        search = Search(chosen, pruner_of(pruner, EPOCHS, trials), FigureOfMerit.of("val_loss"), clock, limits=limits)
        search.go_on(before or [])
        return search, watcher or Watcher()

    plan = Blocks.of(world.size, 2)
    found = world.run(lambda transport: searched(transport, plan, make, trainer, signals or Signals()))
    assert found is not None
    return found


def test_a_thousand_trials_on_64_blocks() -> None:
    """As long as it takes: 1000 trials of 3 epochs, 64 at a time; nobody waits for another's end."""
    trainer = Curves(epochs=3)
    search = search_here(64, 1000, trainer)
    assert sorted(trainer.trained) == [(number, epoch) for number in range(1000) for epoch in range(1, 4)]
    assert [search.trials[number].status for number in range(1000)] == [Status.DONE] * 1000
    assert max(one.ended for one in search.stretches) == pytest.approx(math.ceil(1000 / 64) * 3, rel=1e-3)
    assert search.best == min(search.trials.values(), key=lambda one: one.parameters["x"])


def test_blocks_of_unlike_speed_get_as_much_as_they_can_do() -> None:
    search = search_here(3, 60, Curves(), compute=lambda peer, samples: {1: 1.0, 3: 2.0, 5: 4.0}.get(peer, 0.0))
    done = [sum(trial.block == block for trial in search.trials.values()) for block in (1, 2, 3)]
    assert sum(done) == 60
    assert done[0] == pytest.approx(2 * done[1], abs=2) and done[0] == pytest.approx(4 * done[2], abs=4)
    worked = {
        block: sum(one.ended - one.began for one in search.stretches if one.block == block) for block in (1, 2, 3)
    }
    whole = max(one.ended for one in search.stretches)
    assert all(seconds > whole - 4 * EPOCHS for seconds in worked.values())


def test_the_same_seed_makes_the_same_trials() -> None:
    def points(seed: int) -> list[float]:
        return [trial.parameters["x"] for trial in search_here(4, 20, Curves(), seed=seed).trials.values()]

    assert points(1) == points(1) != points(2)


def test_trials_fail_alone() -> None:
    search = search_here(4, 40, Curves(lambda work: work.number % 3 == 0))
    failed = [trial.number for trial in search.trials.values() if trial.status is Status.FAILED]
    assert failed == list(range(0, 40, 3)) and len(search.ended) == 40
    assert all(search.trials[number].figure is None for number in failed)
    assert search.trials[0].reason == "on purpose"


def test_a_figure_that_is_not_finite_is_a_failure() -> None:
    class Diverging(Curves):
        async def train(self, group: Transport, work: Work, talk: Talk | None) -> tuple[Outcome | None, Weights | None]:
            bad = {"x": math.nan if work.number == 2 else work.parameters["x"]}
            return await super().train(group, replace(work, parameters=bad), talk)

    search = search_here(1, 6, Diverging())
    assert [number for number, one in search.trials.items() if one.status is Status.FAILED] == [2]
    assert search.trials[2].reason == "its val_loss is not finite"


def test_too_many_failures_in_a_row_end_it() -> None:
    trainer = Curves(lambda work: work.number > 4)
    with pytest.raises(TrainingError, match="4 trials in a row failed, the last one: on purpose"):
        search_here(1, 40, trainer, limits=Limits(failures=3))
    assert max(number for number, _ in trainer.trained) == 8


def test_too_many_failures_end_what_runs_beside_them_so_that_it_can_go_on() -> None:
    slow = {1: 1.0, 3: 50.0}
    ended: list[int] = []

    class Heard(Watcher):
        def ended(self, trial: Trial, weights: bytes | None) -> None:
            ended.append(trial.number)

    trainer = Curves(lambda work: work.number > 1)
    with pytest.raises(TrainingError, match="4 trials in a row failed, the last one: on purpose"):
        search_here(
            2, 40, trainer, limits=Limits(failures=3), watcher=Heard(), compute=lambda peer, _: slow.get(peer, 0)
        )
    assert ended == [0, 2, 3, 4, 5], "trial 1 has not ended"


def test_a_target_ends_it() -> None:
    search = search_here(4, 200, Curves(), limits=Limits(target=0.2))
    assert search.closing and "--target-objective 0.2 is reached by trial" in search.closing
    assert search.best and search.best.figure is not None and search.best.figure <= 0.2
    assert search.best.status is Status.DONE and search.closing.endswith(f"by trial {search.best.number}")
    assert len(search.trials) < 200 and all(one.status is not Status.RUNNING for one in search.trials.values())


def test_no_trial_begins_after_the_timeout() -> None:
    search = search_here(2, 200, Curves(), limits=Limits(seconds=20.5))
    assert len(search.trials) == 6 and all(one.status is Status.DONE for one in search.trials.values())


def test_what_rests_when_the_time_is_up_may_go_on() -> None:
    search = search_here(2, 200, Curves(), pruner="asha:reduction=3", limits=Limits(seconds=20.5))
    statuses = [one.status for one in search.trials.values()]
    assert Status.RESTING in statuses and Status.RUNNING not in statuses


def test_optuna_is_told_of_trials_that_rest() -> None:
    pytest.importorskip("optuna")
    search = search_here(4, 24, Curves(), searcher="optuna", pruner="asha:reduction=2")
    assert len(search.ended) == 24


def test_asha_trains_the_best_to_the_end_and_the_others_hardly() -> None:
    trainer = Curves()
    search = search_here(4, 81, trainer, pruner="asha:reduction=3")
    reached = {epoch: sum(trial.epochs >= epoch for trial in search.trials.values()) for epoch in (1, 3, 9)}
    assert reached[1] == 81 and 27 <= reached[3] <= 40 and 9 <= reached[9] <= 20
    best = sorted(search.trials.values(), key=lambda one: one.parameters["x"])
    assert search.best == best[0] and search.best.status is Status.DONE
    assert len(trainer.trained) == len(set(trainer.trained)), "no epoch is trained twice"
    assert {one.status for one in search.trials.values()} == {Status.DONE, Status.PRUNED}


def test_the_coordinator_is_shown_the_weights_of_each_new_best() -> None:
    shown: list[int] = []
    best = [math.inf]

    class Shown(Watcher):
        def ended(self, trial: Trial, weights: bytes | None) -> None:
            if weights is not None:
                assert weights == str(trial.number).encode()
                shown.append(trial.number)
            assert (weights is not None) == (trial.figure is not None and trial.figure < best[0])
            best[0] = min(best[0], trial.figure or math.inf)

    search = search_here(3, 30, Curves(), watcher=Shown())
    assert search.best and shown[-1] == search.best.number


def test_a_signal_leaves_the_trials_so_that_they_can_be_gone_on_with() -> None:
    signals = Signals()

    class Caught(Curves):
        async def train(self, group: Transport, work: Work, talk: Talk | None) -> tuple[Outcome | None, Weights | None]:
            if work.number == 5:
                signals.caught = "SIGUSR1"
            return await super().train(group, work, talk)

    ended: list[int] = []

    class Heard(Watcher):
        def ended(self, trial: Trial, weights: bytes | None) -> None:
            ended.append(trial.number)

    with pytest.raises(Preempted, match="SIGUSR1: --opt-restore"):
        search_here(2, 20, Caught(), signals=signals, watcher=Heard())
    assert ended == [0, 1, 2, 3]


def test_a_signal_that_one_rank_alone_gets_is_for_all() -> None:
    class Told(Curves):
        async def train(self, group: Transport, work: Work, talk: Talk | None) -> tuple[Outcome | None, Weights | None]:
            found = await super().train(group, work, talk)
            return (Outcome(Status.RUNNING, reason="SIGTERM"), None) if work.number == 3 and talk else found

    with pytest.raises(Preempted, match="stopped by SIGTERM"):
        search_here(3, 20, Told())


def test_what_a_lost_block_had_is_done_by_another_one() -> None:
    """The master of the first of two blocks dies in the middle of its second trial; the other block never notices."""
    trainer = Curves()
    search = search_here(2, 8, trainer, faults=[Fault(1, EPOCHS + 4, FaultKind.DIE)])
    assert len(search.ended) == 8 and {one.status for one in search.trials.values()} == {Status.DONE}
    assert sorted(trainer.trained) == [(number, epoch) for number in range(8) for epoch in range(1, EPOCHS + 1)]
    assert [one.block for one in search.stretches] == [1, *[2] * 7]


def test_without_any_block_the_search_ends() -> None:
    with pytest.raises(TrainingError, match="no block is left"):
        search_here(2, 8, Curves(), faults=[Fault(1, 4, FaultKind.DIE), Fault(3, 14, FaultKind.DIE)])


def test_a_trial_that_kills_its_ranks_has_failed() -> None:
    class Deadly(Curves):
        async def train(self, group: Transport, work: Work, talk: Talk | None) -> tuple[Outcome | None, Weights | None]:
            found = await super().train(group, work, talk)
            return (Outcome(Status.RUNNING), None) if work.number == 3 and talk else found  # as where all workers died

    search = search_here(2, 8, Deadly())
    assert [number for number, one in search.trials.items() if one.status is Status.FAILED] == [3]
    assert search.trials[3].reason == "ranks that trained it died 2 times"


@pytest.mark.parametrize("searcher", ["random", "bayesian"])
def test_a_search_goes_on_as_if_it_had_not_stopped(searcher: str) -> None:
    """With one block all is the same: the points and their order."""
    whole = search_here(1, 14, Curves(), searcher=searcher)
    first = [whole.trials[number] for number in whole.ended[:8]]
    running = whole.trials[8]
    begun = Trial(8, running.parameters, Status.RUNNING, running.after)
    trainer = Curves()
    again = search_here(1, 14, trainer, searcher=searcher, before=[*first, begun])
    assert [one.parameters for one in again.trials.values()] == [one.parameters for one in whole.trials.values()]
    assert again.ended == whole.ended
    assert {number for number, _ in trainer.trained} == set(range(8, 14))
