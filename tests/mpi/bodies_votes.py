"""Bodies for test_votes.py: with a master or among workers alone, the digits are learned with the same weights."""

from __future__ import annotations

from typing import Any

from mpi4py import MPI
from sklearn.datasets import load_digits
from torch import nn

from nnlo import Algo
from tests.jobs import Rows, Run, same_bits, train

SETTINGS: tuple[dict[str, Any], ...] = (
    {"mode": "sign", "vote_momentum": 0.9, "rand_zero": True, "lr": 0.01},
    {"mode": "vote", "num_bits": 3, "count_usages": True, "lr": 0.005},
)


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def body_both_exchanges_learn_the_digits_alike(comm: MPI.Intracomm) -> None:
    """1037 samples in batches of 40: the last is short, and not every worker has one in an epoch's last step."""
    x, y = (part[:1037] for part in load_digits(return_X_y=True))
    x = (x / 16).astype("float32")

    def trained(exchange: str, settings: dict[str, Any]) -> Run | None:
        algo = Algo("sgd", exchange=exchange, **settings)
        return train(comm, Rows(x, y, 40), algo, perceptron, epochs=4, seed=1, val=Rows(x[:200], y[:200], 100))

    for settings in SETTINGS:
        served, alone = trained("server", settings), trained("collective", settings)
        assert (served is None) == (alone is None) == (comm.rank > 0)
        if served and alone:
            assert same_bits(served.state, alone.state)
            assert served.last["val_acc"] == alone.last["val_acc"] > 0.6
            assert served.last.get("usages") == alone.last.get("usages")
            assert ("usages" in served.last) == ("count_usages" in settings)
