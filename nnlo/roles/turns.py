"""Whose message a master takes next: whoever's is there; noted for a replay, or as it was noted."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import torch

from nnlo.algos import Pattern
from nnlo.comm.base import Channel
from nnlo.errors import OptionsError, TrainingError
from nnlo.flat import Arena
from nnlo.logs import LOG
from nnlo.training.job import Job
from nnlo.training.replay import LOST, NOW, Record, Recorded, read_record


class Turns:
    """Nothing is noted."""

    def of(self, heard: Iterable[Channel], waiting: Collection[int]) -> list[Channel]:
        """The channels to listen to, out of those of workers that are `heard`; the `waiting` have nothing to say."""
        return list(heard)

    def takes(self, channel: Channel) -> None:
        """A message of that peer is taken now."""

    def lost(self, channel: Channel) -> None:
        """There was none: the peer is lost."""

    def saves(self, due: bool) -> bool:
        """Whether a checkpoint begins now, where it would be `due`."""
        return due

    def end(self, arena: Arena) -> None:
        """These are the last weights."""

    def close(self) -> None:
        """The run is over, or has failed."""


class Recording(Turns):
    """All is noted in a record."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def takes(self, channel: Channel) -> None:
        self._record.add(channel.peer)

    def lost(self, channel: Channel) -> None:
        self._record.add(LOST)

    def saves(self, due: bool) -> bool:
        if due:
            self._record.add(NOW)
        return due

    def end(self, arena: Arena) -> None:
        self._record.end(digest(arena))

    def close(self) -> None:
        self._record.close()


class Replaying(Turns):
    """As it was recorded; from where the record ends, as it comes. Raises TrainingError where that cannot be."""

    def __init__(self, recorded: Recorded, where: str) -> None:
        self._codes, self._digest, self._where, self._next = recorded.codes, recorded.digest, where, 0

    def of(self, heard: Iterable[Channel], waiting: Collection[int]) -> list[Channel]:
        if self._next == len(self._codes):
            return list(heard)
        peer = self._codes[self._next]
        if peer == LOST:
            raise TrainingError(f"{self._where}: there a rank was lost, which a replay cannot repeat")
        found = [channel for channel in heard if channel.peer == peer]
        if not found or peer in waiting:
            raise self._astray(f"rank {peer} was heard there, and {'waits' if found else 'is not there'} now")
        return found

    def takes(self, channel: Channel) -> None:
        if self._next < len(self._codes):
            self._next += 1
            if self._next == len(self._codes) and self._digest is None:
                LOG.warning("%s: the record ends after %d messages; the run goes on by itself", self._where, self._next)

    def saves(self, due: bool) -> bool:
        if self._next == len(self._codes):
            return due
        saves = self._codes[self._next] == NOW
        self._next += saves
        return saves

    def end(self, arena: Arena) -> None:
        if self._digest is None:
            return
        if self._next != len(self._codes) or digest(arena) != self._digest:
            raise self._astray("the run has come to other weights")
        LOG.info("%s: the same weights, bit for bit, after %d messages", self._where, self._next)

    def _astray(self, what: str) -> TrainingError:
        return TrainingError(
            f"{self._where}: the run does not follow its record after {self._next} messages: {what}: give the same "
            "options, data, libraries and kind of machine"
        )


def turns_of(job: Job, about: Mapping[str, Any]) -> Turns:
    """Those of a job that records, or repeats; `about`: what it has to have in common with its record.

    Raises OptionsError and DataError.
    """
    flag = "--record" if job.replay.replay is None else "--replay"
    if job.topology.masters > 1:
        raise OptionsError(f"{flag} knows one master: drop --n-masters")
    if job.algorithm.pattern is Pattern.SERVER and job.server.in_place:
        raise OptionsError(f"{flag} is not for --hogwild, where no order is kept: drop one of them")
    if job.replay.record is not None:
        return Recording(Record(job.replay.record, about))
    assert job.replay.replay is not None
    recorded = read_record(job.replay.replay)
    for name, value in about.items():
        if recorded.about.get(name) != value:
            was, now = recorded.about.get(name), value
            raise OptionsError(f"{flag} {job.replay.replay}: {name} was {was} then and is {now} now: give the same")
    return Replaying(recorded, f"{flag} {job.replay.replay}")


def digest(arena: Arena) -> bytes:
    """The SHA-256 of weights and float buffers."""
    found = hashlib.sha256()
    for part in (arena.vector, arena.buffers):
        if part.numel():
            found.update(part.view(torch.uint8).numpy().data)
    return found.digest()
