"""What papers show: GEM's loss curve keeps its shape as workers are added, and a few bits a gradient are enough.

Hermans and Louppe 2018 (arXiv 1805.08469) give every asynchronous worker the same number of batches at one rate, 0.05,
and add workers: staleness grows with them. Downpour is plain SGD at that rate, as theirs; beside it the same with the
rate divided by an update's delay + 1, which they compare with as well.

Votes are signs (one bit) and levels of three bits after 2,300 steps of the weights, with one worker and with several:
the rates are those of the published runs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

from trainings import Draws, Losses, train

from nnlo.data.prepare import Prepared

BATCH = 64
WITHOUT_DROPOUT = {"dropout": 0.0}

STALE_WORKERS, STALE_BATCHES = (5, 10, 20, 30), 150
STALE = {
    "downpour": "--optimizer sgd --lr 0.05",
    "downpour, rate / (delay + 1)": "--optimizer sgd --lr 0.05 --staleness inverse-plus-one",
    "gem": "--mode gem --gem-lr 0.05 --gem-kappa 1",
}

VOTE_WORKERS, VOTE_BATCHES = (1, 2, 4, 8), 2300
VOTES = {
    "1 bit": "--mode vote --num-bits 1 --lr 3e-4",
    "3 bits": "--mode vote --num-bits 3 --lr 1e-4",
}

POINTS = 50
"""Of a curve: each the mean over as many batches of every worker."""

Save = Callable[[list[dict[str, Any]]], None]


def measure(lists: Prepared, quick: bool, save: Save) -> None:
    """Print and `save` every training as soon as it is done; `quick`: few workers and batches."""
    rows: list[dict[str, Any]] = []
    divisor = 10 if quick else 1
    # Votes are judged by their accuracy on the training samples, as published.
    plans = (("staleness", STALE, STALE_WORKERS, STALE_BATCHES, lists.test_list),
             ("votes", VOTES, VOTE_WORKERS, VOTE_BATCHES, lists.train_list))  # fmt: skip
    for shape, settings, numbers, batches, judged_on in plans:
        data = Draws(lists.train_list, BATCH, batches // divisor)
        for name, flags in settings.items():
            for workers in numbers[:2] if quick else numbers:
                rows.append({"shape": shape, "name": name, **one(flags, workers, data, judged_on)})
                told = "{shape:9} {name:28} {workers:3} workers  accuracy {accuracy:.4f}  last loss {last:.3f}"
                print(told.format(**rows[-1], last=rows[-1]["losses"][-1]), f" {rows[-1]['wall']:4.0f} s", flush=True)
                save(rows)


def one(flags: str, workers: int, data: Draws, judged_on: Any) -> dict[str, Any]:
    """A training: the accuracy in the end, and the curve of the loss by batches of each worker."""
    began = time.perf_counter()
    losses = Losses()
    history = train(flags, workers, data, judged_on, callbacks=[losses], model=WITHOUT_DROPOUT)
    entry = history["epochs"][-1]
    return {
        "workers": workers,
        "flags": flags,
        "batch": data.batch_size,
        "batches": data.updates,
        "accuracy": entry["val_acc"],
        "staleness": entry["staleness"]["mean"],
        "losses": means(losses.seen, POINTS),
        "wall": time.perf_counter() - began,
    }


def means(values: list[float], points: int) -> list[float]:
    """The mean over each of `points` equal parts."""
    bounds = [len(values) * i // points for i in range(points + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(bounds) if b > a]
