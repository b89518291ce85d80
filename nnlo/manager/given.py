"""What user code gives a manager: wrong kinds and sizes are told when it is made, each in one line."""

from __future__ import annotations

from nnlo.algos import Pattern, ServerAlgorithm
from nnlo.comm.base import World
from nnlo.comm.local import LocalWorld
from nnlo.comm.virtual import VirtualWorld
from nnlo.data.base import Data
from nnlo.errors import OptionsError
from nnlo.model import ModelBuilder
from nnlo.topology import Topology, check_counts
from nnlo.training.algo import Algo
from nnlo.training.callbacks import Callback
from nnlo.training.ranks import TEAM_BACKENDS
from nnlo.training.survival import SurvivalArguments


def check_kinds(data: object, val_data: object, algo: object, model_builder: object, callbacks: object) -> None:
    """Raises OptionsError for what is not an instance of nnlo's class, such as a torch module for a builder."""
    check_kind("data", data, Data)
    check_kind("val_data", data if val_data is None else val_data, Data)
    check_kind("algo", algo, Algo)
    check_kind("model_builder", model_builder, ModelBuilder)
    if isinstance(callbacks, Callback):
        raise OptionsError(f"callbacks must be a list: give [{type(callbacks).__name__}()]")


def check_kind(name: str, given: object, kind: type) -> None:
    """Raises OptionsError where `given` is no instance of `kind`."""
    if not isinstance(given, kind):
        what = f"the class {given.__name__}" if isinstance(given, type) else type(given).__name__
        raise OptionsError(f"{name} must be a nnlo.{kind.__name__}, not {what}")


def check_seed(seed: object) -> None:
    """Raises OptionsError for what numpy and torch both refuse, or take for another seed."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise OptionsError(f"--seed must be a whole number, at least 0, not {seed!r}")


def check_ranks(world: World, algo: Algo, num_masters: int, num_processes: int, team_backend: str) -> Topology:
    """What the ranks of `world` are. Raises OptionsError where they do not divide so, or `algo` does not."""
    check_counts(num_masters, num_processes)
    if isinstance(world, LocalWorld) and (num_masters, num_processes) != (1, 1):
        least = Topology.least(num_masters, num_processes)
        asked = f"--n-masters {num_masters} --n-processes {num_processes}"
        raise OptionsError(
            f"{asked}: this is one process, and that takes {least} or more: start mpirun -np {least} ..."
        )
    topology = Topology.of(world.size, num_masters, num_processes)
    if num_masters > 1:
        check_masters(topology, algo)
    check_backend(world, num_processes, team_backend)
    return topology


def check_survival(survival: SurvivalArguments, num_processes: int) -> None:
    """Raises OptionsError for what teams cannot do."""
    if survival.on_bad_file == "skip" and num_processes > 1:
        raise OptionsError("--on-bad-file skip is for workers of one rank: drop it, or --n-processes")


def check_masters(topology: Topology, algo: Algo) -> None:
    """Raises OptionsError where what masters pass on would not be what `algo` says."""
    asked, algorithm = f"--n-masters {topology.masters}", algo.algorithm
    if algorithm.pattern is not Pattern.SERVER or not isinstance(algorithm, ServerAlgorithm):
        raise OptionsError(f"{asked}: the workers of --mode {algo.mode} exchange among themselves: drop it")
    if 0 < algorithm.backup_workers < topology.behind:
        spared = f"--backup-workers {algorithm.backup_workers}"
        raise OptionsError(
            f"{asked} with {spared}: a master waits for its {topology.behind} workers: give at least so many, "
            "or drop one"
        )


def check_backend(world: World, num_processes: int, team_backend: str) -> None:
    """Raises OptionsError for one that is not known, that has nothing to do, or that needs processes of their own."""
    if team_backend not in TEAM_BACKENDS:
        raise OptionsError(f"--team-backend: unknown value {team_backend!r}: choose one of {', '.join(TEAM_BACKENDS)}")
    if team_backend != "mpi" and num_processes == 1:
        raise OptionsError(f"--team-backend {team_backend} has no effect with --n-processes 1: drop it")
    if team_backend != "mpi" and isinstance(world, VirtualWorld):
        raise OptionsError(f"--team-backend {team_backend} is for ranks in processes of their own: drop it here")
