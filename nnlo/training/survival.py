"""What a job does when not all goes well."""

from __future__ import annotations

from dataclasses import dataclass

from nnlo.options import Options, option

LOSSES = ("continue", "stop")


@dataclass(frozen=True, kw_only=True)
class SurvivalArguments(Options):
    """When things go wrong"""

    on_worker_loss: str = option(
        "continue",
        help="when a worker dies or can no longer be reached: the others continue, and share what it had not done, or "
        "the job stops; needs an MPI that survives it (mpirun --with-ft ulfm of Open MPI)",
        choices=lambda: LOSSES,
    )
    min_workers: int = option(1, help="the job stops when fewer workers than this are left", metavar="N", at_least=1)
