"""What the launcher (mpirun, srun, jsrun) says of this process in its environment, without touching MPI."""

from __future__ import annotations

import os

from nnlo.errors import OptionsError

RANK_VARIABLES = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "PALS_RANKID", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
SIZE_VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "JSM_NAMESPACE_SIZE")


def first_number(names: tuple[str, ...], otherwise: int) -> int:
    return next((int(os.environ[name]) for name in names if os.environ.get(name, "").isdigit()), otherwise)


def launched_rank() -> int:
    """This process's rank as its launcher tells it; 0 where there is none."""
    return first_number(RANK_VARIABLES, 0)


def check_alone() -> None:
    """Raises OptionsError where a launcher started several processes and MPI sees but one.

    Each would train by itself, N times the same: the launcher and the MPI library do not go together.
    """
    launched = first_number(SIZE_VARIABLES, 1)
    if launched > 1:
        raise OptionsError(
            f"{launched} processes were started and MPI sees one: launcher and MPI library do not go together; "
            "use the mpirun of that library, or srun --mpi=pmi2 (MPICH), srun --mpi=pmix (Open MPI)"
        )


def check_single() -> None:
    """Raises OptionsError where a launcher started several processes of a command that is one."""
    launched = first_number(SIZE_VARIABLES, 1)
    if launched > 1:
        raise OptionsError(f"{launched} processes were started for what takes one: run it without mpirun")
