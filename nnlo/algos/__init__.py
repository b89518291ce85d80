"""The training modes by name: one line each."""

from nnlo.algos.allreduce import Allreduce, AllreduceOptions
from nnlo.algos.base import (
    Algorithm,
    CollectiveAlgorithm,
    Lineage,
    Mode,
    Pattern,
    Place,
    ServerAlgorithm,
    Update,
)
from nnlo.algos.downpour import Downpour, DownpourOptions
from nnlo.algos.easgd import Easgd
from nnlo.algos.easgd_options import EasgdOptions
from nnlo.algos.gem import Gem, GemOptions
from nnlo.algos.local import Local, LocalOptions
from nnlo.algos.sign import Sign, SignOptions
from nnlo.algos.vote import BinnedVote, BinnedVoteOptions
from nnlo.registry import Registry

#: Levels are no gradients: a step moves every weight by the rate times a level, as Adam's do by about its rate.
SIGN_DEFAULTS = {"optimizer": "sgd", "lr": 1e-3}
VOTE_DEFAULTS = {"optimizer": "sgd", "lr": 5e-4}

MODES: Registry[Mode] = Registry("mode")
MODES.register("downpour", Mode(DownpourOptions, Downpour, needs_optimizer=True), aliases=("sgd",))
MODES.register("easgd", Mode(EasgdOptions, Easgd, needs_optimizer=False))
MODES.register("gem", Mode(GemOptions, Gem, needs_optimizer=False))
MODES.register("allreduce", Mode(AllreduceOptions, Allreduce, needs_optimizer=True))
MODES.register("local", Mode(LocalOptions, Local, needs_optimizer=False))
MODES.register("sign", Mode(SignOptions, Sign, needs_optimizer=True, defaults=SIGN_DEFAULTS))
MODES.register("vote", Mode(BinnedVoteOptions, BinnedVote, needs_optimizer=True, defaults=VOTE_DEFAULTS))

__all__ = [
    "MODES",
    "Algorithm",
    "CollectiveAlgorithm",
    "Lineage",
    "Mode",
    "Pattern",
    "Place",
    "ServerAlgorithm",
    "Update",
]
