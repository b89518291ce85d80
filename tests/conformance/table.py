"""The table of modes: one row a mode and setting. A new mode adds its rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nnlo import Algo


@dataclass(frozen=True)
class Row:
    """A mode with its options; its optimizer, and rates and epochs for the quadratic and for the digits.

    `distance`: how close to the quadratic's minimum it comes, `accuracy`: what it reaches on the digits' test set.
    `moves`: whether it moves weights whose gradient is 0, as votes do that have no zero. `workers`: the fewest.
    `together`: its ranks are on one host.
    """

    mode: str
    options: dict[str, Any] = field(default_factory=dict)
    optimizer: str | None = "sgd"
    quadratic: dict[str, Any] = field(default_factory=lambda: {"lr": 0.05})
    digits: dict[str, Any] = field(default_factory=lambda: {"lr": 0.1})
    quadratic_epochs: int = 20
    digits_epochs: int = 8
    distance: float = 1e-6
    accuracy: float = 0.93
    moves: bool = False
    workers: int = 1
    together: bool = False

    @property
    def id(self) -> str:
        return "-".join([self.mode, *(f"{key}={value}" for key, value in self.options.items())])

    def algo(self, loss: str, settings: dict[str, Any], **more: Any) -> Algo:
        return Algo(self.optimizer, mode=self.mode, loss=loss, **{**self.options, **settings}, **more)


def inner(rate: float) -> dict[str, Any]:
    """The rate of a worker's own steps."""
    return {"worker_optimizer_params": {"lr": rate}}


def own(mode: str, options: dict[str, Any], **more: Any) -> Row:
    """A row of a mode without --optimizer, whose rates are among its options."""
    return Row(mode, options, None, **{"quadratic": {}, "digits": {}, **more})


def gossip(mode: str, options: dict[str, Any], **more: Any) -> Row:
    """A row of a mode on a graph."""
    return Row(mode, options, **{"digits": {"lr": 0.3}, "quadratic": {"lr": 0.1}, "digits_epochs": 10, **more})


TABLE = [
    Row("downpour"),
    Row("downpour", {"synchronous": True}, digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    Row("downpour", {"sync_every": 3}, digits={"lr": 0.15}, quadratic={"lr": 0.1}, digits_epochs=15),
    Row("downpour", {"sync_every": 3, "local_lr": 0.02}, digits={"lr": 0.15}, quadratic={"lr": 0.1}, digits_epochs=15),
    Row(
        "downpour", {"sync_every": 2, "local_lr": 0.02, "synchronous": True}, digits={"lr": 0.3}, quadratic={"lr": 0.2}
    ),
    Row("downpour", {"hogwild": True}, together=True),
    Row("downpour", {"pipeline": True}),
    Row("downpour", {"pipeline": True, "synchronous": True}, digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    Row("downpour", {"compress": "fp16", "error_feedback": True}),
    Row("downpour", {"compress": "sign"}),
    Row("downpour", {"compress_down": "bf16", "compress": "topk:ratio=0.5"}),
    Row(
        "downpour", {"compress_down": "topk:ratio=0.5", "synchronous": True}, digits={"lr": 0.3}, quadratic={"lr": 0.1}
    ),
    Row(
        "downpour",
        {"compress_down": "sign", "sync_every": 2, "local_lr": 0.02},
        digits={"lr": 0.15},
        quadratic_epochs=30,
    ),
    Row("downpour", {"compress": "qsgd"}),
    Row("downpour", {"compress": "bins:bits=4", "synchronous": True}, digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    own("easgd", {"elastic_lr": 0.3}),
    own("easgd", {"elastic_lr": 0.3, "compress": "sign"}),
    own("easgd", {"elastic_lr": 0.3, "compress": "topk:ratio=0.3", "synchronous": True, "elastic_force": 0.2}),
    own("easgd", {"elastic_lr": 0.3, "compress": "qsgd"}),
    own("easgd", {"elastic_lr": 0.3, "compress": "bins"}),
    own("easgd", {"elastic_lr": 0.3, "synchronous": True, "elastic_force": 0.2, "sync_every": 2}),
    own("easgd", {"elastic_lr": 0.05, "elastic_momentum": 0.9, "elastic_order": "before"}),
    own("easgd", {"elastic_lr": 0.05, "elastic_momentum": 0.9, "synchronous": True, "compress": "fp16"}),
    own("easgd", {"elastic_lr": 0.3, "compress": "bf16", "error_feedback": False}),
    own(
        "easgd",
        {"worker_optimizer": "adam", "worker_optimizer_params": {"lr": 0.02}},
        quadratic={"worker_optimizer_params": {"lr": 0.05}},
        quadratic_epochs=30,
    ),
    own("gem", {"gem_lr": 0.05}),
    own(
        "gem",
        {"gem_lr": 0.05, "gem_momentum": 0.5, "gem_kappa": 1.5, "gem_clip": 3.0, "sync_every": 2},
        digits_epochs=12,
    ),
    own("gem", {"gem_lr": 0.05, "gem_variant": "code"}),
    Row("downpour", {"staleness": "inverse-plus-one", "max_staleness": 4}, digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    Row("downpour", {"delay_compensation": 0.5}),
    Row("downpour", {"synchronous": True, "backup_workers": 1}, digits={"lr": 0.3}, quadratic={"lr": 0.1}, workers=2),
    Row("allreduce", digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    Row("allreduce", {"sync_every": 2}, digits={"lr": 0.4}, quadratic={"lr": 0.2}),
    Row("allreduce", {"compress": "bf16", "error_feedback": True}, digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    Row("allreduce", {"compress": "sign"}, digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    Row("allreduce", {"compress": "topk:ratio=0.3"}, digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    Row("allreduce", {"compress": "qsgd"}, digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    Row("allreduce", {"compress": "bins"}, digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    Row("allreduce", {"compress": "powersgd:rank=1"}, digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    Row("sign", quadratic={"lr": 0.02}, digits={"lr": 0.005}, distance=3e-3),
    Row(
        "sign",
        {"exchange": "collective", "vote_momentum": 0.9, "zero": "plus"},
        quadratic={"lr": 0.02},
        digits={"lr": 0.003},
        distance=0.03,
        moves=True,
    ),
    Row(
        "sign",
        {"rand_zero": True, "sync_every": 2},
        quadratic={"lr": 0.03},
        digits={"lr": 0.005},
        distance=0.01,
        moves=True,
    ),
    Row("vote", quadratic={"lr": 0.01}, digits={"lr": 0.002}, distance=0.01),
    Row(
        "vote",
        {
            "exchange": "collective",
            "num_bits": 5,
            "binning": "exp",
            "decay_min": 0.7,
            "decay_max": 0.7,
            "count_usages": True,
        },
        quadratic={"lr": 0.003},
        digits={"lr": 0.001},
        distance=0.02,
    ),
    Row(
        "vote",
        {"rand_zero": True, "sync_every": 2, "num_bits": 2},
        quadratic={"lr": 0.02},
        digits={"lr": 0.005},
        distance=0.01,
        moves=True,
    ),
    Row("allreduce", {"bucket_mib": 1e-6}, digits={"lr": 0.3}, quadratic={"lr": 0.1}),
    Row("local", inner(0.1), optimizer=None, digits=inner(0.3), quadratic={}),
    Row(
        "local",
        {"sync_every": 4, "outer_lr": 0.5, "outer_momentum": 0.5, "post_local_from": 1},
        optimizer=None,
        digits=inner(0.2),
        quadratic=inner(0.1),
    ),
    Row(
        "local",
        {"worker_optimizer": "adam", "sync_every": 4, "outer_lr": 0.7, "outer_momentum": 0.5, "nesterov_outer": True},
        optimizer=None,
        digits=inner(0.005),
        quadratic=inner(0.02),
        quadratic_epochs=40,
    ),
    Row(
        "local",
        {"sync_every": 2, "compress": "bf16", "error_feedback": True},
        optimizer=None,
        digits=inner(0.2),
        quadratic=inner(0.1),
    ),
    *(
        Row("local", {"compress": codec, "sync_every": 2}, optimizer=None, digits=inner(0.2), quadratic=inner(0.1))
        for codec in ("powersgd:rank=1", "sign", "topk:ratio=0.3", "qsgd", "bins")
    ),
    gossip("dsgd", {"graph": "cycle"}),
    gossip("dsgd", {"graph": "one-peer-exponential", "dsgd_order": "combine-then-adapt", "sync_every": 2}),
    gossip("dsgd", {"graph": "complete", "dsgd_order": "together", "dsgd_mu": 0.01}),
    gossip("dsgt", {"graph": "one-peer-exponential", "init_grads": False}),
    gossip("dinno", {"rho": 0.2, "rho_scale": 1.001, "primal_steps": 2}),
    gossip("dinno", {"persistent_optimizer": True, "graph": "star", "rho": 0.1}),
    gossip("choco", {"compress": "fp16", "error_feedback": None, "sync_every": 2}),
    *(gossip("choco", {"compress": codec, "choco_gamma": 0.3}) for codec in ("sign", "topk:ratio=0.3", "qsgd", "bins")),
]
