"""A job that is told to leave does so after a checkpoint, and goes on from there as if nothing had been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nnlo import Callback
from nnlo.comm.costs import Costs, Fault, FaultKind
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import Finished, Preempted, TrainingError
from tests.golden.test_restoring import EPOCHS, EXACT, SAMPLES, algo_of, kept_in, learn, network, same_figures, sgd
from tests.jobs import Rows, labelled, same_bits, train_here


class Told(Callback):
    """The job is told to leave once the clock has passed so many samples."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        if logs["samples"] >= self.samples and self.manager.signals.caught is None:
            self.manager.signals.caught = "SIGUSR1"


@pytest.mark.parametrize("samples", [1, 60])
@pytest.mark.parametrize("what", ["one worker", "one worker, pipeline", "one worker, gem", "synchronous",
                                  "synchronous, easgd, compressed", "vote", "allreduce", "local"])  # fmt: skip
def test_it_leaves_at_the_next_step_and_goes_on_bit_for_bit(what: str, samples: int, tmp_path: Path) -> None:
    size, options = EXACT[what]
    plain = learn(size, algo_of(options))
    with pytest.raises(Preempted, match="stopped by SIGUSR1 after checkpoint 000001: --restore auto goes on"):
        learn(size, algo_of(options), checkpoint=tmp_path, restore="auto", callbacks=[Told(samples)])
    assert json.loads((tmp_path / "status.json").read_text()) == {
        "state": "preempted", "checkpoint": "000001", "exit_code": 85,
    }  # fmt: skip
    again = learn(size, algo_of(options), checkpoint=tmp_path, restore="auto")
    assert same_bits(again.state, plain.state)
    assert same_figures(again.history, plain.history)
    assert samples <= again.history["restored"][0]["samples"] <= samples + 104
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "done"


@pytest.mark.parametrize("what", ["one worker", "synchronous", "allreduce"])
def test_one_that_is_told_at_its_end_is_done(what: str, tmp_path: Path) -> None:
    size, options = EXACT[what]
    run = learn(size, algo_of(options), checkpoint=tmp_path, callbacks=[Told(EPOCHS * SAMPLES)])
    assert run.history["outcome"] == "done"
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "done"


@pytest.mark.parametrize("what", ["one worker", "vote", "allreduce"])
def test_a_training_that_is_done_is_not_done_again(what: str, tmp_path: Path) -> None:
    size, options = EXACT[what]
    learn(size, algo_of(options), checkpoint=tmp_path)
    with pytest.raises(Finished, match=f"all {EPOCHS} epochs are done: ask for more --epochs"):
        learn(size, algo_of(options), checkpoint=tmp_path, restore="auto")
    plain = learn(size, algo_of(options), epochs=EPOCHS + 2)
    longer = learn(size, algo_of(options), epochs=EPOCHS + 2, checkpoint=tmp_path, restore="auto")
    assert same_bits(longer.state, plain.state)


def test_what_a_rule_has_seen_goes_on(tmp_path: Path) -> None:
    """Three epochs without a better accuracy than that of a model that cannot learn, over two stops."""
    size, options = EXACT["synchronous"]
    rule = {"early_stopping": "val_acc,>,3", "epochs": 9}
    still = {**options, "lr": 0.0, "momentum": 0.0}
    plain = learn(size, algo_of(still), **rule)
    assert plain.history["outcome"] == "stopped"
    for samples in (150, 300):
        with pytest.raises(Preempted):
            learn(size, algo_of(still), checkpoint=tmp_path, restore="auto", callbacks=[Told(samples)], **rule)
    again = learn(size, algo_of(still), checkpoint=tmp_path, restore="auto", **rule)
    assert again.history["stop_reason"] == plain.history["stop_reason"]
    assert len(again.history["epochs"]) == len(plain.history["epochs"])
    assert [point["samples"] for point in again.history["restored"]] == sorted(
        point["samples"] for point in again.history["restored"]
    )
    with pytest.raises(Finished, match=r"it was stopped .--early-stopping val_acc.*: drop that rule to go on"):
        learn(size, algo_of(still), checkpoint=tmp_path, restore="auto", **rule)
    assert len(kept_in(tmp_path)) == 2


@pytest.mark.parametrize("way", ["downpour", "gem"])
def test_a_job_that_fails_while_it_is_saved_ends(way: str, tmp_path: Path) -> None:
    """One worker waits with its state, while the updates of another are bad."""
    costs = Costs(compute=lambda rank, samples: samples * (1e-4 if rank == 1 else 1e-2), notice=0.01)
    world = VirtualWorld(3, costs=costs, faults=[Fault(2, 2, FaultKind.DIE)])
    data = Rows(*labelled(SAMPLES), 8)
    algo = algo_of(sgd() if way == "downpour" else {"mode": "gem"})
    with pytest.raises(TrainingError, match="--on-worker-loss stop"):
        train_here(
            world, data, algo, network, epochs=2, checkpoint=tmp_path, checkpoint_every="0.001s", on_worker_loss="stop"
        )
