"""Training from lists of HDF5 files, next to the same samples in memory; how large a list makes a worker.

    python benchmarks/data.py --rounds 5 --out data.json

The mnist network, two workers. The limit of compressed files is what training in memory and unpacking each sample once
take together, the latter measured by h5py alone. Then one epoch over lists that name the same files 1, 10 and 50 times.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from launch import ranks_of
from paired import interleaved, medians, ratios

import nnlo

SAMPLES, FILES, EPOCHS, WORKERS, BATCH = 24_000, 8, 3, 2, 100
SHAPE = (28, 28, 1)
KEY, MEMORY = "samples_per_second", "in memory"
CHUNK = (64, *SHAPE)
LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunked": {"chunks": CHUNK},
    "gzip": {"chunks": CHUNK, "compression": "gzip"},
    "lzf": {"chunks": CHUNK, "compression": "lzf"},
}
PACKED = ("gzip", "lzf")
LONGER = (1, 10, 50)


def samples(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Those of one file: floats of which four in five are 0, as in pictures of digits."""
    rng = np.random.default_rng(number)
    x = rng.integers(0, 256, (SAMPLES // FILES, *SHAPE)) * (rng.random((SAMPLES // FILES, *SHAPE)) < 0.2)
    return (x / np.float32(255)).astype(np.float32), rng.integers(0, 10, SAMPLES // FILES)


def write(folder: Path, layout: str) -> Path:
    """The list of the files."""
    names = [folder / f"{layout}_{number}.h5" for number in range(FILES)]
    for number, name in enumerate(names):
        x, y = samples(number)
        with h5py.File(name, "w") as file:
            file.create_dataset("features", data=x, **LAYOUTS[layout])
            file["labels"] = y
    listed = folder / f"{layout}.list"
    listed.write_text("\n".join(map(str, names)))
    return listed


@cache
def held(worker: int, workers: int) -> tuple[np.ndarray, np.ndarray]:
    """A worker's part of all samples, made before the training begins: its data are looked at then."""
    parts = [samples(number) for number in range(worker, FILES, workers)]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


class InMemory(nnlo.Data):
    """Each worker has its part of the samples, and shuffles them every epoch."""

    shards_itself = True

    def count_data(self) -> int:
        return SAMPLES // FILES * len(range(self.worker, FILES, self.num_workers))

    def generate_data(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        x, y = held(self.worker, self.num_workers)
        order = np.random.default_rng(0).permutation(len(x))
        for start in range(0, len(x), BATCH):
            rows = order[start : start + BATCH]
            yield x[rows], y[rows]


class First(nnlo.Callback):
    """Seconds until the first update."""

    seconds = 0.0

    def on_train_begin(self, logs: dict[str, Any]) -> None:
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        if batch == 0:
            self.seconds = time.perf_counter() - self.began


def rank(listed: str, epochs: int) -> None:
    """What each rank of a launch does; rank 0 prints what it found. An empty `listed` trains from memory."""
    from mpi4py import MPI

    first, algo, model = First(), nnlo.Algo("sgd", lr=0.01), nnlo.ModelPytorch(None, "mnist")
    data = nnlo.H5Data(BATCH) if listed else InMemory(BATCH)
    manager = nnlo.MPIManager(
        MPI.COMM_WORLD, data, algo, model, epochs, listed or None, None, callbacks=[first], output=None
    )
    history = manager.train()
    if history is not None:
        peak = max(size for rank, size in history["peak_memory_bytes"].items() if rank != "0")
        speed = history["epochs"][-1]["samples"] / history["seconds"]
        print(json.dumps({KEY: speed, "peak_mib": peak / 2**20, "first_s": first.seconds}), flush=True)


def launched(listed: Path | None, epochs: int = EPOCHS) -> dict[str, float]:
    found: dict[str, float] = ranks_of(__file__, WORKERS + 1, listed or "", epochs)
    return found


def unpacking(listed: Path) -> float:
    """Seconds that one sample takes to be read into memory that is there, by h5py alone."""
    room, seconds = np.empty((SAMPLES // FILES, *SHAPE), np.float32), []
    for name in listed.read_text().splitlines():
        with h5py.File(name, "r") as file:
            began = time.process_time()
            file["features"].read_direct(room)
            seconds.append(time.process_time() - began)
    return statistics.median(seconds) / len(room)


def table(found: dict[str, list[dict[str, float]]], lists: dict[str, Path]) -> str:
    lines = ["| | samples/s | of in memory | of the limit |", "| --- | --- | --- | --- |"]
    for name, middle in medians(found).items():
        ratio = statistics.median(ratios(found, name, MEMORY, KEY))
        packing = unpacking(lists[name]) if name in PACKED else 0.0
        limit = 1 / (1 + packing * medians(found)[MEMORY][KEY] / WORKERS)
        lines.append(f"| {name} | {middle[KEY]:,.0f} | {ratio:.2f} | {ratio / limit:.2f} |")
    return "\n".join(lines)


def longer_lists(listed: Path) -> dict[str, dict[str, float]]:
    """One epoch over the list, and over longer ones."""
    found = {}
    for times in LONGER:
        longer = listed.with_suffix(f".{times}")
        longer.write_text("\n".join(times * listed.read_text().splitlines()))
        found[f"{times} x"] = launched(longer, 1)
        print(f"{times:3} x {FILES} files: a worker's peak {found[f'{times} x']['peak_mib']:.0f} MiB, ", end="")
        print(f"first update after {found[f'{times} x']['first_s']:.2f} s", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    parser.add_argument("--rank", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank:
        rank(arguments.rank[0], int(arguments.rank[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        lists = {layout: write(Path(folder), layout) for layout in LAYOUTS}
        contenders = {MEMORY: partial(launched, None), **{name: partial(launched, one) for name, one in lists.items()}}
        found = interleaved(contenders, arguments.rounds)
        print(f"\n{table(found, lists)}\n")
        longer = longer_lists(lists["contiguous"])
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"rounds": found, "longer lists": longer}, indent=1))


if __name__ == "__main__":
    main()
