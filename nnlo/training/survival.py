"""What a job does when not all goes well."""

from __future__ import annotations

from dataclasses import dataclass

from nnlo.options import Options, option

LOSSES = ("continue", "stop")
BAD_FILES = ("stop", "skip")


@dataclass(frozen=True, kw_only=True)
class SurvivalArguments(Options):
    """Surviving"""

    on_worker_loss: str = option(
        "continue",
        help="when a worker dies: the others continue and do what it had not done, or the job stops; they can continue "
        "where MPI lets them, as Open MPI's mpirun --with-ft ulfm does",
        choices=lambda: LOSSES,
        metavar="WHAT",
    )
    stall_timeout: float = option(
        1800.0,
        help="seconds that a worker may take for one batch; one that hangs for longer ends, and is a worker that died; "
        "0 for no limit",
        metavar="SECONDS",
        at_least=0,
    )
    on_bad_file: str = option(
        "stop",
        help="when training samples cannot be read, as a file is gone or broken: the job stops, or their batches are "
        "skipped and counted",
        choices=lambda: BAD_FILES,
        metavar="WHAT",
    )
    min_workers: int = option(1, help="the job stops when fewer workers than this are left", metavar="N", at_least=1)
