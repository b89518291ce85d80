"""What a batch costs by who puts it together: the rank itself, or a thread that is four batches ahead.

    python benchmarks/batches.py --rounds 40 --out batches.json

100 pictures of MNIST's size, shuffled, out of memory, beside some matrix products. Processor time is what counts where
all cores are busy; where one is free, a thread's part of the time is not seen.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from paired import interleaved
from workloads import BATCH, WORKLOADS

from nnlo import H5Data
from nnlo.comm.aside import Aside
from nnlo.data.feed import SampleFeed
from nnlo.data.index import Index
from nnlo.data.lists import read_list
from nnlo.data.shuffle import Shuffle

BATCHES, AHEAD = 60, 4
NOBODY = "nobody"

Way = Callable[[SampleFeed], None]


def work() -> None:
    """A few milliseconds."""
    matrix = torch.ones(300, 300)
    for _ in range(4):
        torch.mm(matrix, matrix)


def nobody(feed: SampleFeed) -> None:
    for _ in range(BATCHES):
        work()


def itself(feed: SampleFeed) -> None:
    for k in range(BATCHES):
        feed.read(0, k)
        work()


def thread(feed: SampleFeed, aside: Aside) -> None:
    begun = [aside.submit(partial(feed.read, 0, k), "reading") for k in range(AHEAD)]
    for k in range(BATCHES):
        begun.pop(0).result()
        begun.append(aside.submit(partial(feed.read, 0, k + AHEAD), "reading"))
        work()


def microseconds(way: Way, feed: SampleFeed) -> dict[str, float]:
    """Of a batch."""
    began, used = time.perf_counter(), time.process_time()
    way(feed)
    return {
        "processor": 1e6 * (time.process_time() - used) / BATCHES,
        "time": 1e6 * (time.perf_counter() - began) / BATCHES,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files, data = read_list(WORKLOADS["mnist"].write(Path(folder)), "--train-data"), H5Data(BATCH)
        index = Index.of(files, [data.count_file(file) for file in files])
        feed, aside = SampleFeed(data, index, Shuffle(index.samples, BATCH, index.samples, 0), torch.float32), Aside()
        feed.read(0, 0)
        ways: dict[str, Way] = {NOBODY: nobody, "the rank itself": itself, "a thread": partial(thread, aside=aside)}
        found = interleaved({name: partial(microseconds, way, feed) for name, way in ways.items()}, arguments.rounds)
        aside.close()
    print("\n| | us of a core a batch (quartiles) | us of time |\n| --- | --- | --- |")
    for name in list(ways)[1:]:
        cells = [more(found[name], found[NOBODY], key) for key in ("processor", "time")]
        print(f"| {name} | {' | '.join(cells)} |")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=1))


def more(found: list[dict[str, float]], alone: list[dict[str, float]], key: str) -> str:
    """Than the work alone."""
    each = [one[key] - other[key] for one, other in zip(found, alone, strict=True)]
    low, middle, high = statistics.quantiles(each, n=4)
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"


if __name__ == "__main__":
    main()
