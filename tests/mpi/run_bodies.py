"""Runs functions `body_*(comm)` of modules on every rank, one after another, in one job.

    mpirun -np 3 python tests/mpi/run_bodies.py MODULE.py::body_ping[::SECONDS] ... [--records DIR]

Each body gets a communicator of its own, and may take so many seconds. It passes when it returns on every rank, fails
when it raises on one, and is skipped by `unittest.SkipTest`. Each rank appends a line of JSON a body to DIR/RANK.jsonl,
at once, so that they outlive a job that has to be ended: when a body is not done in time, or one rank has failed in it
and another is still in it GRACE seconds later. Rank 0 prints the report of `merge` as JSON.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import os
import sys
import tempfile
import threading
import time
import traceback
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

SECONDS = TO_END = 20.0
GRACE = 2.0
ENDED = 70
"""Exit code of a rank that ends the job because a body hangs."""


class Rank:
    """What one rank does: runs bodies, writes its records, waits for the others without burning its core."""

    def __init__(self, world: Any, records: Path) -> None:
        self.control = world.Dup()
        self.path = records / f"{world.rank}.jsonl"

    def run(self, name: str, body: Callable[[Any], None], seconds: float) -> None:
        comm = self.control.Dup()
        with self.watched(name, seconds):
            outcome, text = attempt(body, comm)
        self.write(name, outcome, text)
        self.wait_for_others(GRACE if outcome == "failed" else seconds + GRACE)

    @contextmanager
    def watched(self, name: str, seconds: float) -> Iterator[None]:
        """Ends the job when the block takes longer than `seconds`; the record shows where this rank stood."""
        inside = threading.get_ident()

        def end() -> None:
            stack = "".join(traceback.format_stack(sys._current_frames()[inside]))
            self.write(name, "failed", f"still running after {seconds:g} s:\n{stack}")
            time.sleep(1)
            os._exit(ENDED)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def wait_for_others(self, seconds: float) -> None:
        request, deadline = self.control.Ibarrier(), time.monotonic() + seconds
        while not request.Test():
            if time.monotonic() > deadline:
                os._exit(ENDED)
            time.sleep(0.001)

    def write(self, name: str, outcome: str, text: str) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"body": name, "rank": self.control.rank, "outcome": outcome, "text": text}) + "\n")


def attempt(body: Callable[[Any], None], comm: Any) -> tuple[str, str]:
    """(outcome, text): "passed", "skipped" with its reason, or "failed" with its traceback."""
    try:
        body(comm)
    except unittest.SkipTest as reason:
        return "skipped", str(reason)
    except (Exception, SystemExit):
        return "failed", traceback.format_exc()
    return "passed", ""


def merge(records: Path, names: list[str], ranks: int) -> dict[str, dict[str, str]]:
    """One {"outcome", "text"} for each body that at least one rank has a record of, in the order of `names`."""
    lines = [json.loads(line) for path in sorted(records.glob("*.jsonl")) for line in path.read_text().splitlines()]
    by_name = {name: [line for line in lines if line["body"] == name] for name in names}
    return {name: _verdict(found, ranks) for name, found in by_name.items() if found}


def _verdict(found: list[dict[str, Any]], ranks: int) -> dict[str, str]:
    missing = sorted(set(range(ranks)) - {line["rank"] for line in found})
    texts = [f"rank {line['rank']}: {line['text']}" for line in found if line["outcome"] == "failed"]
    texts += [f"rank {rank}: did not come out of it" for rank in missing]
    if texts:
        return {"outcome": "failed", "text": "\n".join(texts)}
    skips = [line["text"] for line in found if line["outcome"] == "skipped"]
    return {"outcome": "skipped", "text": skips[0]} if skips else {"outcome": "passed", "text": ""}


@functools.cache
def load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec and spec.loader, f"no Python module: {path}"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bodies", nargs="+", metavar="MODULE.py::NAME[::SECONDS]")
    parser.add_argument("--records")
    args = parser.parse_args()
    sys.path[0] = str(Path(__file__).parents[2])
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    records = Path(world.bcast(args.records or (tempfile.mkdtemp() if world.rank == 0 else None)))
    rank = Rank(world, records)
    for text in args.bodies:
        path, name, *limit = text.split("::")
        rank.run(text, getattr(load(path), name), float(limit[0]) if limit else SECONDS)
    if world.rank == 0:
        print(json.dumps(merge(records, args.bodies, world.size), indent=1), flush=True)
    with rank.watched("Finalize", TO_END):
        MPI.Finalize()


if __name__ == "__main__":
    main()
