"""Looking through the data of a job without training: each rank takes its share of the files.

Each tries its model on them as well.
"""

from __future__ import annotations

import copy
import dataclasses
from functools import partial
from typing import Any

from nnlo.comm.agree import agree, everywhere, share
from nnlo.comm.base import Transport
from nnlo.data.base import Data
from nnlo.data.check import Report, Values, check_file, check_generator, same_forms
from nnlo.errors import DataError
from nnlo.roles.trial import Trial
from nnlo.topology import Role, Topology
from nnlo.training.job import Job


async def check_job(transport: Transport, job: Job, named: Job) -> list[str]:
    """A line on each file of both lists, by its name in those of `named`, or on each worker's generator.

    Raises DataError on every rank where something is wrong, once the lines are printed on rank 0.
    """
    trial = await everywhere(transport, partial(Trial, job))
    parts = [("--train-data", job.data, job.train_files, named.train_files)]
    if job.val_files or job.val_data is not job.data:
        parts.append(("--val-data", job.val_data, job.val_files, named.val_files))
    lines, wrong, total = [], 0, 0
    for flag, data, files, names in parts:
        found = await check_part(transport, job.topology, copy.copy(data), files, names, trial)
        samples = sum(one.samples for one in found)
        lines += [f"{flag}: {samples} samples", *map(str, found)]
        wrong, total = wrong + sum(one.wrong for one in found) + (samples == 0), total + len(found)
    if transport.rank == 0:
        print("\n".join(lines), flush=True)
    fault = f"--check-data: {wrong} of {total} files or generators are wrong: see the lines that begin with WRONG"
    await agree(transport, DataError(fault) if wrong else None)
    return lines


async def check_part(
    transport: Transport, topology: Topology, data: Data, files: list[str], names: list[str], trial: Trial
) -> list[Report]:
    """Reports on what one list, or the workers' generators, hold."""
    if data.makes_batches:
        return await check_generators(transport, topology, data, files, trial)
    own = list(zip(files, names, strict=True))[transport.rank :: transport.size]
    mine = await everywhere(transport, lambda: [check_file(data, file, name, trial) for file, name in own])
    told = await share(transport, [dataclasses.asdict(one) for one in mine])
    return same_forms([restored(told[i % transport.size][i // transport.size]) for i in range(len(files))])


async def check_generators(
    transport: Transport, topology: Topology, data: Data, files: list[str], trial: Trial
) -> list[Report]:
    """One epoch on each worker; of one that reads no files, and that all would take in turn, the first worker's."""
    node = topology.nodes[transport.rank]
    data.worker, data.num_workers = max(0, node.worker - 1), topology.workers
    data.file_names = files[data.worker :: data.num_workers]
    data.reads_files = False
    looks = node.role is Role.WORKER
    mine = await everywhere(transport, partial(check_generator, data, trial) if looks else lambda: None)
    alone = mine is not None and not data.reads_files and not data.shards_itself
    all_told = await share(transport, [dataclasses.asdict(mine) if mine else None, alone])
    told = [all_told[lead] for lead in topology.leads]
    return [restored(one) for one, _ in (told[:1] if told[0][1] else told)]


def restored(told: dict[str, Any]) -> Report:
    """A report that another rank sent."""
    return Report(**{**told, "values": [Values(**one) for one in told["values"]]})
