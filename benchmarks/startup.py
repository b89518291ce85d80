"""Where the time goes from `mpirun` to the first update, on rank 0 of three.

python benchmarks/startup.py --rounds 5 --out startup.json
"""

from __future__ import annotations

import time

STARTED = time.time()  # before anything else is imported

import argparse  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import tempfile  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

LAUNCHED = "NNLO_BENCHMARK_LAUNCHED"
RANKS = 3


class Marks:
    """Seconds since the last mark, by what they went to."""

    def __init__(self, since: float) -> None:
        self._last, self.seconds = since, dict[str, float]()

    def mark(self, what: str, now: float | None = None) -> None:
        now = time.time() if now is None else now
        self.seconds[what], self._last = now - self._last, now


def rank(train_list: str) -> None:
    """What each rank of a launch does; rank 0 prints its marks."""
    marks = Marks(float(os.environ[LAUNCHED]))
    marks.mark("mpirun and the interpreter", STARTED)
    from mpi4py import MPI

    marks.mark("MPI")
    import torch

    marks.mark("import torch")
    import nnlo

    marks.mark("import nnlo")

    class Clock(nnlo.Callback):
        def on_train_begin(self, logs: dict[str, Any]) -> None:
            marks.mark("data, model, agreement of the ranks")

        def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
            if batch == 0:
                marks.mark("first batch and update")

    torch.set_num_threads(1)
    data, algo, model = nnlo.H5Data(100), nnlo.Algo("adam"), nnlo.ModelPytorch(None, "mnist")
    manager = nnlo.MPIManager(MPI.COMM_WORLD, data, algo, model, 1, train_list, None, callbacks=[Clock()], output=None)
    marks.mark("manager")
    manager.train()
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(marks.seconds), flush=True)


def launched(train_list: str) -> dict[str, float]:
    from launch import ranks_of

    found: dict[str, float] = ranks_of(__file__, RANKS, train_list, **{LAUNCHED: str(time.time())})
    return {**found, "together": sum(found.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    parser.add_argument("--rank", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank:
        rank(arguments.rank)
        return
    from paired import interleaved, medians
    from workloads import WORKLOADS

    with tempfile.TemporaryDirectory() as folder:
        listed = str(WORKLOADS["mnist"].write(Path(folder)))
        found = interleaved({"start": partial(launched, listed)}, arguments.rounds)
    print("\n| on rank 0 | seconds |\n| --- | --- |")
    for what, seconds in medians(found)["start"].items():
        print(f"| {what} | {seconds:.2f} |")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
