"""Collectives of a few ranks through torch.distributed: gloo, or NCCL where each rank has a GPU of its own.

The ranks meet at a store that the first of them opens at a free port, so that many groups may share a host, and no
environment variable is read. Memory is the library's own; for NCCL it goes over the GPU.
"""

from __future__ import annotations

import socket
from datetime import timedelta
from functools import partial
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from nnlo.comm.agree import everywhere, share
from nnlo.comm.base import Source, Transport
from nnlo.errors import OptionsError

BACKENDS = ("gloo", "nccl")
#: How long ranks wait for one another when they meet.
PATIENCE = timedelta(seconds=60)
#: How long one rank of a group may wait for another in training: MPI ends the job where a rank fails.
FOR_EVER = timedelta(days=365)


class Collectives(Protocol):
    """What a group of ranks reduces by: a transport has it too."""

    def allreduce(self, memory: Tensor) -> Source: ...

    def broadcast(self, memory: Tensor, root: int) -> Source: ...


class Working(Source):
    """A collective under way on `memory`, by way of `staged` where the two are not the same."""

    def __init__(self, work: dist.Work, memory: Tensor, staged: Tensor) -> None:
        self._work, self._memory, self._staged = work, memory, staged
        self._done = False

    @property
    def ready(self) -> bool:
        """Raises what torch.distributed failed with."""
        if not self._done and self._work.is_completed():
            self._work.wait()
            if self._staged is not self._memory:
                self._memory.copy_(self._staged)
            self._done = True
        return self._done


class TorchGroup:
    """This process's one group in torch.distributed; memory is taken to `device` where it is not there."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def allreduce(self, memory: Tensor) -> Source:
        staged = memory.to(self._device)
        return Working(dist.all_reduce(staged, async_op=True), memory, staged)

    def broadcast(self, memory: Tensor, root: int) -> Source:
        staged = memory.to(self._device)
        return Working(dist.broadcast(staged, root, async_op=True), memory, staged)

    def close(self) -> None:
        dist.destroy_process_group()


async def meet(world: Transport, group: Transport | None, backend: str) -> TorchGroup | None:
    """Every rank of `world` calls it, each with its own `group`; None where that is None.

    Raises the same OptionsError on every rank where one of them cannot take part.
    """
    host, name = own_address(), socket.gethostname()
    hosts = await share(world, name if group else None)
    await everywhere(world, partial(check_backend, backend, hosts.count(name)))
    opened = await everywhere(world, lambda: open_store() if group and group.rank == 0 else None)
    if group is None:
        await everywhere(world, lambda: None)
        return None
    address, first, port = (await share(group, [host, name, opened and opened.port]))[0]
    reached = "127.0.0.1" if first == name else address
    device = torch.device("cuda", hosts[: world.rank].count(name)) if backend == "nccl" else torch.device("cpu")
    return await everywhere(world, partial(join, backend, group, opened, (reached, port), device))


def check_backend(backend: str, ranks_here: int) -> None:
    """Raises OptionsError for one that torch, or this host, does not have."""
    if not dist.is_available() or not (dist.is_gloo_available() if backend == "gloo" else dist.is_nccl_available()):
        raise OptionsError(f"--team-backend {backend}: this torch has none: take mpi")
    if dist.is_initialized():
        raise OptionsError(f"--team-backend {backend}: this program uses torch.distributed itself: take mpi")
    if backend == "nccl" and torch.cuda.device_count() < ranks_here:
        found = f"{torch.cuda.device_count()} for {ranks_here} ranks on {socket.gethostname()}"
        raise OptionsError(f"--team-backend nccl needs a GPU for every rank, and there are {found}: take gloo or mpi")


def own_address() -> str:
    """Where other hosts reach this one: its address if its name has one, else the name."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return socket.gethostname()


def open_store() -> Any:
    """A meeting point at a free port."""
    return TCPStore("0.0.0.0", 0, is_master=True, timeout=PATIENCE, wait_for_workers=False)


def join(backend: str, group: Transport, store: Any, address: tuple[str, int], device: torch.device) -> TorchGroup:
    """Meet the others of the group, at its first rank's `store`. Raises OptionsError where that cannot be reached."""
    try:
        store = store or TCPStore(*address, is_master=False, timeout=PATIENCE)
        dist.init_process_group(backend, store=store, rank=group.rank, world_size=group.size, timeout=FOR_EVER)
    except RuntimeError as error:
        said, where = str(error).partition("\n")[0], ":".join(map(str, address))
        raise OptionsError(f"--team-backend {backend}: cannot reach {where} ({said}): take mpi") from error
    return TorchGroup(device)
