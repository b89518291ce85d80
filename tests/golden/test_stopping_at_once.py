"""A training that is stopped at once makes no more updates than were under way, and goes on as if it had not been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nnlo import Callback
from tests.golden.test_restoring import EXACT, SAMPLES, algo_of, learn, same_figures
from tests.jobs import same_bits

WHAT = ["one worker", "one worker, pipeline", "one worker, gem", "synchronous", "vote", "allreduce", "local"]


class Enough(Callback):
    """Stops once the clock has passed so many samples."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        if logs["samples"] >= self.samples and not self.manager.stop_training:
            self.manager.stop("enough", at_once=True)


@pytest.mark.parametrize("samples", [1, 60])
@pytest.mark.parametrize("what", WHAT)
def test_it_stops_at_the_next_step_and_can_go_on_bit_for_bit(what: str, samples: int, tmp_path: Path) -> None:
    size, options = EXACT[what]
    plain = learn(size, algo_of(options))
    first = learn(size, algo_of(options), checkpoint=tmp_path, restore="auto", callbacks=[Enough(samples)])
    assert (first.history["outcome"], first.history["stop_reason"]) == ("stopped", "enough")
    again = learn(size, algo_of(options), checkpoint=tmp_path, restore="auto")
    assert samples <= again.history["restored"][0]["samples"] <= samples + 104 < 2 * SAMPLES
    assert same_bits(again.state, plain.state)
    assert same_figures(again.history, plain.history)


@pytest.mark.parametrize("what", [*WHAT, "asynchronous"])
def test_it_needs_no_checkpoint_for_that(what: str) -> None:
    size, options = EXACT.get(what, (4, {"optimizer": "sgd", "lr": 0.1}))
    steps: list[int] = []

    class Watched(Enough):
        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            super().on_train_batch_end(batch, logs)
            steps.append(logs["samples"])

    run = learn(size, algo_of(options), callbacks=[Watched(1)])
    assert run.history["outcome"] == "stopped" and steps[-1] <= 1 + 104
