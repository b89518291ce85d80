"""A search over the ranks of an mpi4py communicator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnlo.comm.mpi import MpiWorld
from nnlo.optimize.block import Trainer
from nnlo.optimize.crossing import FoldTrainer
from nnlo.optimize.plan import Plan, searched
from nnlo.optimize.search import Search
from nnlo.optimize.training import Build, Group, ManagerTrainer
from nnlo.topology import Blocks
from nnlo.training.signals import Signals


def search_on(comm: Any, blocks: Blocks, plan: Plan, build: Build, checkpoints: Path | None = None) -> Search | None:
    """Search, on all ranks of `comm`, each of which calls it; the search is returned on the first one, None elsewhere.

    build: makes the `MPIManager` of a trial on the ranks of a communicator. checkpoints: the folder for those of the
    trials. Raises the same error on every rank.
    """
    block = comm.Split(blocks.block(comm.rank), comm.rank)
    with Signals() as signals:
        trainer: Trainer = ManagerTrainer(Group(block, build, signals), plan.figure, checkpoints)
        if plan.folds > 1:
            trainer = FoldTrainer(block, plan.folds, build, plan.figure, checkpoints, signals)
        return MpiWorld(comm).run(lambda transport: searched(transport, blocks, plan.make, trainer, signals))
