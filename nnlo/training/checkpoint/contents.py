"""What is in a checkpoint, and whether a job can go on from it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnlo.algos import Pattern
from nnlo.compress import CodecSpec
from nnlo.errors import DataError, OptionsError
from nnlo.flat import Layout
from nnlo.training.checkpoint.parcel import Tree
from nnlo.training.checkpoint.store import Saved, newest
from nnlo.training.job import Job

MASTER, RECORD = "master.safetensors", "record.safetensors"

#: What has to be as it was, and what a user would call it.
WORDS = {
    "digest": "another model",
    "mode": "--mode {}",
    "optimizer": "--optimizer {}",
    "samples": "{} training samples",
    "split": "{}",
    "batch": "--batch {}",
    "grain": "another --shuffle-buffer ({} batches)",
    "seed": "--seed {}",
    "compress": "--compress {}",
    "compress_down": "--compress-down {}",
    "worker_optimizer": "--worker-optimizer {}",
    "amp": "--amp {}",
    "pipeline": "pipeline: {}",
    "synchronous": "synchronous: {}",
}


def worker_file(number: int) -> str:
    return f"worker-{number}.safetensors"


def fingerprint(job: Job, layout: Layout, samples: int, grain: int) -> dict[str, Any]:
    """What a job has to have in common with one whose checkpoint it goes on from."""
    algorithm, server = job.algorithm, job.algorithm.pattern is Pattern.SERVER
    return {
        **said_by(algorithm.codec, "compress"),
        **said_by(getattr(algorithm, "down", None), "compress_down"),
        "worker_optimizer": getattr(getattr(algorithm, "options", None), "worker_optimizer", None),
        "amp": job.amp and str(job.amp).removeprefix("torch."),
        "pipeline": server and job.server.pipelined,
        "synchronous": algorithm.synchronous,
        "digest": layout.digest,
        "mode": type(job.algorithm).__name__.lower(),
        "optimizer": job.optimizer and job.optimizer.name,
        "samples": samples,
        "split": f"data_split: {job.data_split or 'as the mode says'}, classes: {job.classes or 'all'}",
        "batch": job.data.batch_size,
        "grain": grain,
        "seed": job.seed,
    }


def said_by(codec: CodecSpec | None, name: str) -> dict[str, str]:
    return {name: "none" if codec is None else f"{codec.name}:{codec.settings.recorded()}"}


@dataclass(frozen=True)
class Restored:
    """A checkpoint that training goes on from: `master` and `record` are what rank 0 had."""

    saved: Saved
    master: Tree
    record: Tree

    @classmethod
    def of(cls, base: Path, own: Mapping[str, Any], fresh: bool) -> Restored | None:
        """The last one in `base` that is whole. None where there is none, if one may begin afresh.

        Raises DataError where none can be read, and OptionsError where the job, of which `own` is the fingerprint, is
        another one.
        """
        saved = newest(base)
        if saved is None and fresh:
            return None
        if saved is None:
            raise DataError(f"--restore {base}: no checkpoint there: name another folder, or train without --restore")
        with understood(saved.folder):
            check_same(base, saved.about["job"], own)
            return cls(saved, saved.tree(MASTER), saved.tree(RECORD))

    @property
    def history(self) -> dict[str, Any]:
        found: dict[str, Any] = self.record["history"]
        return found

    @property
    def resumed(self) -> dict[str, Any]:
        """What a history goes on with."""
        before = self.history
        point = {
            "checkpoint": str(self.saved.folder),
            "samples": self.master["clock"],
            "seconds": self.master["seconds"],
        }
        kept = {name: before[name] for name in ("epochs", "validations", "lost")}
        return {**kept, "restored": [*before.get("restored", []), {**point, "ranks": before["ranks"]}]}

    @property
    def epochs(self) -> int:
        """That are done."""
        return len(self.history["epochs"])

    @property
    def begun(self) -> int:
        """The last epoch, from 1, of which batches were dealt."""
        dealer = self.master.get("dealer")
        if dealer is None:
            return self.epochs + 1
        ranges = [one for ranges in dealer["granted"].values() for one in ranges]
        ranges += [one for pool in dealer["pools"] for one in pool["returned"]]
        pools = [pool["epoch"] + 1 for pool in dealer["pools"] if pool["next"]]
        return max([*pools, *(one[0] + 1 for one in ranges)], default=0)

    def over(self, epochs: int, rules: Collection[str]) -> str | None:
        """Why there is nothing left to do, where so many epochs are asked for, and to stop by these rules."""
        if self.epochs >= epochs:
            return f"all {epochs} epochs are done: ask for more --epochs to go on"
        if self.begun > epochs:
            return f"some of epoch {self.begun} is done already: ask for more --epochs to go on"
        reason: str | None = self.record["stop"]
        if self.record["stopping"] and self.saved.about["over"] and any(reason and rule in reason for rule in rules):
            return f"it was stopped ({reason}): drop that rule to go on"
        return None

    def worker(self, number: int) -> bytes | None:
        """What the worker of that number had, None where it is not kept."""
        name = worker_file(number)
        return self.saved.data(name) if name in self.saved.about["files"] else None


@contextmanager
def understood(folder: Path) -> Iterator[None]:
    """What is in a checkpoint of `folder`, and is not what is looked for, becomes a DataError."""
    try:
        yield
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise DataError(
            f"{folder}: not a checkpoint of this job as this version writes them ({type(error).__name__}: {error})"
        ) from error


def check_same(base: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for name, words in WORDS.items():
        if before.get(name) != now[name]:
            was, has = (words.format(one) for one in (before.get(name), now[name]))
            told = f"its run had {was}, and this one has {has}" if was != has else f"its run trained {was}"
            raise OptionsError(f"--restore {base}: {told}: give the same, or train without --restore")
