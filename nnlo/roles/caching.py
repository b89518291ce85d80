"""The files of a job copied to a folder near the ranks: once a host, before anything reads them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from types import TracebackType

from nnlo.comm.agree import everywhere, share
from nnlo.comm.base import Transport
from nnlo.data.cache import CacheSettings, RunFolder
from nnlo.errors import NnloError
from nnlo.logs import LOG
from nnlo.threads import Place
from nnlo.training.job import Job


class CachedFiles:
    """A context in which `copied` gives a job whose lists name copies; in the end those who copied remove them.

    An error that leaves it names the files as the lists do.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._folders: list[RunFolder] = []
        self._names: dict[str, str] = {}

    def __enter__(self) -> CachedFiles:
        return self

    def __exit__(self, _: object, error: BaseException | None, trace: TracebackType | None) -> None:
        for folder in self._folders:
            folder.remove()
        if isinstance(error, NnloError):
            error.args = (self._original(str(error)),)

    def _original(self, message: str) -> str:
        for path, name in self._names.items():
            message = message.replace(path, name)
        return message

    async def copied(self, transport: Transport, places: Sequence[Place]) -> Job:
        """The job to train. Raises the same error on every rank where a file cannot be copied."""
        wanted = self._wanted()
        told: list[tuple[bool, str]] = await share(transport, [bool(wanted), uuid.uuid4().hex])
        if not any(wants for wants, _ in told):
            return self._job
        run = told[0][1]
        hosts = [host for host, _ in places]
        first = hosts.index(hosts[transport.rank]) == transport.rank
        await everywhere(transport, partial(self._copy, wanted, run) if first else lambda: None)
        found: dict[CacheSettings | None, dict[str, str]] = {}
        found.update({settings: settings.paths(names, run) for settings, names in wanted.items()})
        self._names = {path: name for paths in found.values() for name, path in paths.items()}
        job = self._job
        train, val = found.get(job.data.cached, {}), found.get(job.val_data.cached, {})
        return replace(
            job,
            train_files=[train.get(name, name) for name in job.train_files],
            val_files=[val.get(name, name) for name in job.val_files],
        )

    def _wanted(self) -> dict[CacheSettings, list[str]]:
        """The names to copy, by where and how."""
        wanted: dict[CacheSettings, list[str]] = {}
        for data, files in ((self._job.data, self._job.train_files), (self._job.val_data, self._job.val_files)):
            if data.cached is not None and files:
                wanted.setdefault(data.cached, []).extend(files)
        return wanted

    def _copy(self, wanted: dict[CacheSettings, list[str]], run: str) -> None:
        for settings, names in wanted.items():
            folder = RunFolder.make(settings, run)
            if folder is None:
                continue
            self._folders.append(folder)
            began, paths = time.perf_counter(), settings.paths(names, run)
            size = folder.fill(paths, settings.command)
            seconds = time.perf_counter() - began
            what = f"{len(paths)} file{'s' * (len(paths) != 1)}"
            LOG.info("copied %s, %.1f MB, to %s in %.1f s", what, size / 1e6, folder.path, seconds)
