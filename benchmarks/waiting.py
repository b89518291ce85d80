"""What ranks that wait cost those that compute, and how long it takes to wake one.

    python benchmarks/waiting.py --rounds 5 --out waiting.json

As many ranks compute as there are cores; the others wait for a message that does not come for some seconds: their
processor time, and what the computing ranks get done in that time next to what they get done alone. Then
one computing rank after each piece of work wakes a waiting one. The last rows: one rank that waits, one that wakes
it, a core each, asleep and with `--wait spin`. Beside both, how late a process is that waits for a socket and does
nothing else: no rank that sleeps can be sooner. Times are of the machine's one monotonic clock.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import socket
import statistics
import struct
import time
from functools import partial
from multiprocessing import Process
from pathlib import Path
from typing import Any

import torch
from launch import ranks_of
from paired import interleaved, medians, ratios

from nnlo.comm.base import Transport
from nnlo.comm.messages import Header, Kind
from nnlo.flat import HEADER_BYTES

SECONDS = 3.0
WAKES = 200
TAG = 1
ALONE, EACH, SOCKET = "nobody waits", "a core each", "a socket alone"
STAMP = struct.Struct("q")


class Piece:
    """Some milliseconds of work."""

    def __init__(self) -> None:
        self._a, self._b = torch.rand(300, 300), torch.rand(300, 300)

    def __call__(self) -> None:
        for _ in range(4):
            torch.mm(self._a, self._b)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def measure(transport: Transport, busy: int) -> dict[str, Any] | None:
    """Ranks 1 to `busy` compute, the others wait; rank 1 wakes them in turn. On rank 0 what all found."""
    waiting = [rank for rank in range(transport.size) if not 1 <= rank <= busy]
    computes, wakes = transport.rank not in waiting, transport.rank == 1
    peers = waiting if wakes else [] if computes else [1]
    channels = {peer: transport.channel(peer, TAG, HEADER_BYTES) for peer in peers}
    await transport.allgather(b"")
    found: dict[str, Any] = {}
    if computes:
        found["pieces"] = compute(SECONDS)
    else:
        found["idle"] = await idle(transport, channels[1])
    for turn in range(WAKES) if wakes else ():
        Piece()()
        header = Header(Kind.REPLY, samples=time.perf_counter_ns())
        channels[waiting[turn % len(waiting)]].send(header)
    for peer in waiting if wakes else ():
        channels[peer].send(Header(Kind.STOP))
    if not computes:
        found["late"] = await woken(transport, channels[1])
    elif not wakes:
        compute(SECONDS / 3)
    everything = [json.loads(told) for told in await transport.allgather(json.dumps(found).encode())]
    return summary(everything) if transport.rank == 0 else None


def compute(seconds: float) -> int:
    """How many pieces are done in that time."""
    piece, pieces, end = Piece(), 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        piece()
        pieces += 1
    return pieces


async def idle(transport: Transport, channel: Any) -> float:
    """The share of a core that waiting takes."""
    channel.post()
    began, used = time.perf_counter(), cpu_seconds()
    await transport.wait([channel], transport.clock() + 0.8 * SECONDS)
    return (cpu_seconds() - used) / (time.perf_counter() - began)


async def woken(transport: Transport, channel: Any) -> list[float]:
    """Microseconds from the sending of each message until this rank goes on."""
    late = []
    while True:
        await transport.wait([channel])
        now, header = time.perf_counter_ns(), channel.take()
        if header.kind is Kind.STOP:
            return late
        late.append((now - header.samples) / 1e3)
        channel.post()


def summary(everything: list[dict[str, Any]]) -> dict[str, Any]:
    late = [one for found in everything for one in found.get("late", ())]
    idle = [found["idle"] for found in everything if "idle" in found]
    pieces = sum(found.get("pieces", 0) for found in everything)
    return {"idle_cpu": max(idle, default=0.0), "pieces": pieces, "wake_us": statistics.median(late) if late else 0.0}


def by_socket(busy: int) -> dict[str, float]:
    """`busy` processes compute, and the first of them wakes this one after each piece of work."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    others = [Process(target=ring, args=(near,)), *(Process(target=compute, args=(SECONDS,)) for _ in range(1, busy))]
    for one in others:
        one.start()
    late = []
    for _ in range(WAKES):
        (sent,) = STAMP.unpack(far.recv(STAMP.size))
        late.append((time.perf_counter_ns() - sent) / 1e3)
    for one in others:
        one.join()
    return {"idle_cpu": 0.0, "pieces": 0, "wake_us": statistics.median(late)}


def ring(near: socket.socket) -> None:
    torch.set_num_threads(1)
    piece = Piece()
    for _ in range(WAKES):
        piece()
        near.send(STAMP.pack(time.perf_counter_ns()))


def rank(transport: str, wait: str, busy: int) -> None:
    from mpi4py import MPI

    from nnlo.comm.mpi import MpiWorld

    torch.set_num_threads(1)
    if wait == ALONE:
        MPI.COMM_WORLD.Barrier()
        pieces = MPI.COMM_WORLD.reduce(compute(SECONDS))
        found = None if pieces is None else {"idle_cpu": 0.0, "pieces": pieces, "wake_us": 0.0}
    else:
        world = MpiWorld(MPI.COMM_WORLD, wait == "spin", transport)
        found = world.run(partial(measure, busy=busy))
    if found is not None:
        print(json.dumps(found), flush=True)


def launched(ranks: int, busy: int, transport: str, wait: str) -> dict[str, float]:
    found: dict[str, float] = ranks_of(__file__, ranks, transport, wait, busy)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ranks", type=int, nargs="+", default=[3, 5, 7, 15])
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    parser.add_argument("--rank", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank:
        transport, wait, busy = arguments.rank
        rank(transport, wait, int(busy))
        return
    cores = len(os.sched_getaffinity(0))
    contenders = {ALONE: partial(launched, cores, cores, "shm", ALONE)}
    for transport in ("shm", "mpi"):
        for ranks in arguments.ranks:
            contenders[f"{ranks} ranks, {transport}"] = partial(launched, ranks, cores, transport, "sleep")
        for wait in ("sleep", "spin"):
            contenders[f"{EACH}, {transport}, {wait}"] = partial(launched, 2, 1, transport, wait)
    contenders |= {SOCKET: partial(by_socket, cores), f"{SOCKET}, {EACH}": partial(by_socket, 1)}
    found = interleaved(contenders, arguments.rounds)
    print(table(found))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(found, indent=1))


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Work is set beside where as many compute as where nobody waits, and where it was counted."""
    lines = ["", "| | a waiting rank, % of a core | work done | wake-up, us |", "| --- | --- | --- | --- |"]
    for name, middle in medians(found).items():
        done = statistics.median(ratios(found, name, ALONE, "pieces"))
        work = "" if EACH in name or SOCKET in name else f"{done:.2f}"
        idle = "" if SOCKET in name else f"{100 * middle['idle_cpu']:.2f}"
        lines.append(f"| {name} | {idle} | {work} | {middle['wake_us']:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
