"""Where a worker's batches come from: the samples of files, dealt by number, or its own generator."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from nnlo.algos import Pattern
from nnlo.comm.agree import agree, everywhere, share
from nnlo.comm.base import Transport
from nnlo.data.base import Data
from nnlo.data.dealing import UNBOUNDED
from nnlo.data.feed import Batch, Feed, GeneratorFeed, SampleFeed
from nnlo.data.fold import Fold
from nnlo.data.index import Index
from nnlo.data.partition import DataSplit, of_classes
from nnlo.data.shuffle import InOrder, Shuffle
from nnlo.data.split import split
from nnlo.errors import DataError, OptionsError
from nnlo.roles.inspect import Sample, alike, count_files, first_batch, first_rows
from nnlo.topology import Node
from nnlo.training.job import BUFFER_BYTES, Job
from nnlo.training.seeds import Purpose, derived

#: What is validated at a time where batches are smaller: so many samples, of so many bytes at most.
SAMPLES_TOGETHER, BYTES_TOGETHER = 256, 1 << 20

MakeFeed = Callable[[torch.dtype], Feed]


@dataclass(frozen=True)
class Part:
    """The batches `first` to `stop` of each epoch of a feed."""

    feed: MakeFeed
    first: int = 0
    stop: int = UNBOUNDED

    def batches(self, dtype: torch.dtype) -> Iterator[Batch]:
        return self.feed(dtype).in_order(0, self.first, self.stop)


@dataclass(frozen=True)
class Intake:
    """`samples` an epoch in batches of one pool or one a worker; ranges of `grain` batches; a few samples to try.

    `ahead`: batches that a worker is to hold beforehand, to preload them; `held_out`: what a split validates on.
    `measured`: the training samples that this rank's accuracy is measured on.
    """

    samples: int
    pools: tuple[int, ...]
    grain: int
    sample: Sample | None
    feed: MakeFeed
    measured: Part
    ahead: int = 0
    held_out: Index | None = None


async def training_intake(transport: Transport, job: Job) -> Intake:
    """How this job's training data are dealt. Raises the same DataError on every rank."""
    data = copy.copy(job.data)
    data.worker, data.num_workers = max(0, job.topology.nodes[transport.rank].worker - 1), job.topology.workers
    if data.makes_batches:
        return await from_generator(transport, job, data)
    data.file_names = job.train_files
    return await from_files(transport, job, data)


async def from_files(transport: Transport, job: Job, data: Data) -> Intake:
    index = await count_files(transport, data, job.train_files, "--train-data")
    if job.classes is not None and index.samples:
        index = await everywhere(transport, partial(of_classes, data, index, job.classes))
    held_out = None
    if job.train_split is not None:
        index, held_out = await everywhere(transport, partial(divided, job, index))
    sample = await everywhere(transport, lambda: first_rows(data, enough(index, data.num_workers, "--train-data")))
    buffer = job.shuffle_buffer or whole_batches(block_size(data, index, sample), data.batch_size)
    node = job.topology.nodes[transport.rank]
    parts = await everywhere(transport, partial(parts_of, job, data, index))
    own = parts[data.worker] if parts else index
    seed = derived(job.seed, Purpose.SHUFFLE, data.worker) if parts else derived(job.seed, Purpose.SHUFFLE)
    shuffle = Shuffle(own.samples, data.batch_size, min(buffer, own.samples), seed)
    grain = max(1, min(buffer, index.samples) // data.batch_size)
    measured = share_of(node, data, own if parts and node.worker else index, shuffle.buffer, whole=bool(parts))
    pools = tuple(-(-part.samples // data.batch_size) for part in parts or [index])
    feed = partial(SampleFeed, data, own, shuffle)
    return Intake(index.samples, pools, grain, sample, feed, measured, data.preloading * grain, held_out)


def parts_of(job: Job, data: Data, index: Index) -> list[Index]:
    """Each worker's own samples; empty where all deal in common ones. Raises DataError.

    Nodes of a graph have their own; for others what all share is dealt anew in each epoch.
    """
    on_graph = job.algorithm.pattern is Pattern.GOSSIP
    split = job.data_split or DataSplit("even" if on_graph else "shared")
    if split.name == "shared" and not on_graph:
        return []
    return split.parts(data, index, job.topology.workers, derived(job.seed, Purpose.PARTS))


def share_of(node: Node, data: Data, index: Index, buffer: int, whole: bool) -> Part:
    """All training samples for a master; for a worker one of as many equal parts as there are workers, or the `whole`.

    They are read by a copy of `data`: threads may still be reading ahead by the other one.
    """
    order = InOrder.of(index.samples, data.batch_size, buffer)
    first, stop = 0, order.batches
    if node.worker and not whole:
        first, stop = (order.batches * place // data.num_workers for place in (data.worker, data.worker + 1))
    return Part(partial(SampleFeed, copy.copy(data), index, order), first, stop)


def divided(job: Job, index: Index) -> tuple[Index, Index]:
    """The samples to train on, and those to validate on, at least one. Raises DataError."""
    seed = derived(job.seed, Purpose.SPLIT)
    if isinstance(job.train_split, Fold):
        return divided_in_folds(job.train_split, index, seed)
    share = job.train_split or 1.0
    parts = split(index, share, seed)
    if index.samples and not all(part.samples for part in parts):
        what = "validate" if parts[0].samples else "train"
        raise DataError(
            f"--train-split {share:g} leaves none of {index.samples} samples to {what} on: change the share"
        )
    return parts


def divided_in_folds(fold: Fold, index: Index, seed: int) -> tuple[Index, Index]:
    if 0 < index.samples < fold.count:
        raise DataError(f"--n-fold {fold.count} is more than the {index.samples} samples that the files hold: lower it")
    return fold.split(index, seed)


def whole_batches(samples: int, batch: int) -> int:
    """Rounded down, so that no batch lies in two blocks and most ranges lie in one."""
    return max(batch, samples // batch * batch)


def block_size(data: Data, index: Index, sample: Sample) -> int:
    """Samples to hold at once; as many as the largest file has, where files can only be loaded whole."""
    fitting = max(data.batch_size, BUFFER_BYTES // max(1, sample.bytes_each))
    return max(fitting, index.largest) if data.whole_files else fitting


def enough(index: Index, workers: int, flag: str) -> Index:
    """The index, if each worker can be given a sample. Raises DataError."""
    if not index.files:
        raise DataError(f"{flag}: no files: name a list of files, or override generate_data()")
    if not index.samples:
        raise DataError(f"{flag}: the files hold no sample: list others")
    if index.samples < workers:
        found = f"the files hold {index.samples} samples, fewer than the {workers} workers"
        raise DataError(f"{flag}: {found}: start fewer ranks or list more files")
    return index


async def from_generator(transport: Transport, job: Job, data: Data) -> Intake:
    """Each worker makes its own batches; how many samples an epoch has is counted once, here."""
    await agree(transport, refusal(job, data))
    data.file_names = job.train_files[data.worker :: data.num_workers]
    look, trains = partial(look_at_generator, data, bool(job.train_files)), job.topology.nodes[transport.rank].worker
    sample, in_turn, count = await everywhere(transport, look if trains else lambda: (None, False, 0))
    all_told: list[tuple[bool, int]] = await share(transport, [in_turn, count])
    told = [all_told[lead] for lead in job.topology.leads]
    samples = told[0][1] if told[0][0] else sum(count for _, count in told)
    if samples < 1:
        fault = f"generate_data() of {type(data).__name__} yields no sample: it must yield (x, y) batches"
        await agree(transport, DataError(fault))
    turn = (data.worker, data.num_workers) if in_turn else (0, 1)
    own = partial(GeneratorFeed, copy.copy(data), turn=turn)
    part = Part(own if trains else partial(GeneratorFeed, of_all(data, job)))
    return Intake(samples, (UNBOUNDED,) * len(told), 1, sample, partial(GeneratorFeed, data, turn=turn), part)


def of_all(data: Data, job: Job) -> Data:
    """The generator as one worker alone would run it, over all files."""
    alone = copy.copy(data)
    alone.worker, alone.num_workers, alone.file_names = 0, 1, job.train_files
    return alone


def refusal(job: Job, data: Data) -> OptionsError | None:
    """Complains of options that a user's own generator does not read."""
    skips = job.survival.on_bad_file == "skip"
    division = "--n-fold" if isinstance(job.train_split, Fold) else "--train-split"
    asked = {division: job.train_split is not None, "--preload-data": data.preloading > 0}
    asked |= {"--data-split": job.data_split is not None, "--classes": job.classes is not None}
    for flag, given in (asked | {"--on-bad-file skip": skips}).items():
        if given:
            what = f"generate_data() of {type(data).__name__} makes its own batches"
            return OptionsError(f"{flag} is not for it: {what}: drop it, or override load_data() instead")
    return None


def look_at_generator(data: Data, has_files: bool) -> tuple[Sample | None, bool, int]:
    """Its first batch, if it has one, whether workers take its batches in turn, and its samples an epoch."""
    data.reads_files = False
    sample = first_batch(data)
    reads_files = data.reads_files
    if sample is None and reads_files and has_files and not data.file_names:
        raise DataError(f"worker {data.worker + 1} of {data.num_workers} has no file: list at least one file a worker")
    return sample, not reads_files and not data.shards_itself, int(data.count_data())


@dataclass(frozen=True)
class Validation:
    """What the master validates on: `samples` of them, by `feed`; None where the generator alone knows how many."""

    samples: int | None
    feed: MakeFeed


async def validation_intake(
    transport: Transport, job: Job, held_out: Index | None, trained: Sample | None = None
) -> Validation | None:
    """The validation data, None where there are none. Raises the same DataError on every rank.

    trained: a few training samples, which those of validation files are to be like.
    """
    data = copy.copy(job.val_data)
    data.worker, data.num_workers, data.file_names = 0, 1, job.val_files
    if data.makes_batches:
        if not job.val_files and job.val_data is job.data:
            return None
        await everywhere(transport, partial(some_batch, data) if transport.rank == 0 else lambda: None)
        return Validation(None, partial(GeneratorFeed, data))
    if not job.val_files and held_out is None:
        return None
    index = held_out or await count_files(transport, data, job.val_files, "--val-data")
    if job.classes is not None and held_out is None and index.samples:
        index = await everywhere(transport, partial(of_classes, data, index, job.classes))
    like = trained if type(job.val_data) is type(job.data) else None
    sample = await everywhere(transport, lambda: alike(first_rows(data, enough(index, 1, "--val-data")), like))
    batch = max(data.batch_size, min(SAMPLES_TOGETHER, BYTES_TOGETHER // max(1, sample.bytes_each)))
    order = InOrder.of(index.samples, batch, block_size(data, index, sample))
    return Validation(index.samples, partial(SampleFeed, data, index, order))


def some_batch(data: Data) -> None:
    """Raises DataError for a generator without a sample to validate on."""
    if first_batch(data) is None:
        raise DataError(f"generate_data() of {type(data).__name__} yields no sample to validate on")
