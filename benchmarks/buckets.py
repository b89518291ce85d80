"""Samples/s of --mode allreduce with two workers, by the size of the parts that are reduced during the backward pass.

    python benchmarks/buckets.py --rounds 5

A network of 22 thousand parameters, and one of 10 million, by memory that the ranks share and by MPI; 0 reduces the
gradient whole, afterwards.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

from paired import interleaved, report
from throughput import SGD, nnlo
from workloads import WORKLOADS

#: Sizes in MiB.
CASES = {"mnist": ("0", "0.03", "1"), "mlp": ("0", "1", "4", "16")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, sizes in CASES.items():
            workload, listed = WORKLOADS[name], WORKLOADS[name].write(Path(folder))
            contenders = {
                f"{name}, {transport}, {size} MiB": partial(
                    nnlo,
                    workload,
                    listed,
                    f"--mode allreduce {SGD} --bucket-mib {size} --transport {transport}",
                    2,
                )
                for transport in ("shm", "mpi")
                for size in sizes
            }
            report(interleaved(contenders, arguments.rounds), f"{name}, shm, 0 MiB", "samples_per_second", None)


if __name__ == "__main__":
    main()
