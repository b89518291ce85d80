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
    ServerOptions,
    SyncEveryOptions,
    Update,
)
from nnlo.algos.choco import Choco, ChocoOptions
from nnlo.algos.dinno import Dinno, DinnoOptions
from nnlo.algos.downpour import Downpour
from nnlo.algos.downpour_options import DownpourOptions
from nnlo.algos.dsgd import Dsgd, DsgdOptions
from nnlo.algos.dsgt import Dsgt, DsgtOptions
from nnlo.algos.easgd import Easgd
from nnlo.algos.easgd_options import EasgdOptions
from nnlo.algos.gem import Gem, GemOptions
from nnlo.algos.gossip import GossipAlgorithm, Value
from nnlo.algos.hogwild import Hogwild
from nnlo.algos.local import Local, LocalOptions
from nnlo.algos.sign import Sign, SignOptions
from nnlo.algos.vote import BinnedVote, BinnedVoteOptions
from nnlo.algos.voting import VoteOptions
from nnlo.algos.worker_optimizer import WorkerOptimizerOptions
from nnlo.compress.options import CompressOptions
from nnlo.registry import Registry
from nnlo.topology.graphs import GraphOptions

#: Levels are no gradients: a step moves every weight by the rate times a level, as Adam's do by about its rate.
SIGN_DEFAULTS = {"optimizer": "sgd", "lr": 1e-3, "clip_norm": None, "clip_value": None}
VOTE_DEFAULTS = {"optimizer": "sgd", "lr": 5e-4, "clip_norm": None, "clip_value": None}

#: What theory and practice of gossip take; DiNNO solves a small problem in each round, for which Adam is good.
ALONG_GRADIENTS = {"optimizer": "sgd", "lr": 0.1}
PRIMAL = {"optimizer": "adam", "lr": 5e-3}

#: What has to do with the workers' own optimizer, instead of --optimizer.
WORKERS_OWN = {
    "optimizer": "--worker-optimizer",
    "lr": "--worker-optimizer-params lr=...",
    "momentum": "--worker-optimizer-params momentum=...",
    "weight_decay": "--worker-optimizer-params weight_decay=...",
    "optimizer_params": "--worker-optimizer-params",
}
ELASTIC = {**WORKERS_OWN, "lr": "--elastic-lr", "momentum": "--elastic-momentum"}
ENERGY = {"lr": "--gem-lr", "momentum": "--gem-momentum"}

#: Options that several modes read, which are told of together.
SHARED = (SyncEveryOptions, ServerOptions, GraphOptions, CompressOptions, WorkerOptimizerOptions, VoteOptions)


def downpour(options: DownpourOptions) -> ServerAlgorithm:
    """Steps that the master makes, or the workers themselves."""
    return Hogwild(options) if options.hogwild else Downpour(options)


MODES: Registry[Mode] = Registry("mode")
MODES.register("downpour", Mode(DownpourOptions, downpour, needs_optimizer=True), aliases=("sgd",))
MODES.register("easgd", Mode(EasgdOptions, Easgd, needs_optimizer=False, instead=ELASTIC))
MODES.register("gem", Mode(GemOptions, Gem, needs_optimizer=False, instead=ENERGY))
MODES.register("allreduce", Mode(AllreduceOptions, Allreduce, needs_optimizer=True))
MODES.register("local", Mode(LocalOptions, Local, needs_optimizer=False, instead=WORKERS_OWN))
MODES.register("sign", Mode(SignOptions, Sign, needs_optimizer=True, defaults=SIGN_DEFAULTS, clips=False))
MODES.register("vote", Mode(BinnedVoteOptions, BinnedVote, needs_optimizer=True, defaults=VOTE_DEFAULTS, clips=False))
MODES.register("dsgd", Mode(DsgdOptions, Dsgd, needs_optimizer=True, defaults=ALONG_GRADIENTS))
MODES.register("dsgt", Mode(DsgtOptions, Dsgt, needs_optimizer=True, defaults=ALONG_GRADIENTS, clips=False))
MODES.register("dinno", Mode(DinnoOptions, Dinno, needs_optimizer=True, defaults=PRIMAL))
MODES.register("choco", Mode(ChocoOptions, Choco, needs_optimizer=True, defaults=ALONG_GRADIENTS))

__all__ = [
    "MODES",
    "SHARED",
    "Algorithm",
    "CollectiveAlgorithm",
    "GossipAlgorithm",
    "Lineage",
    "Mode",
    "Pattern",
    "Place",
    "ServerAlgorithm",
    "Update",
    "Value",
]
