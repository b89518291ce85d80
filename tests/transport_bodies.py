"""What every transport must do, as coroutines `body(transport)` that run on each rank of a world of any size.

The virtual clock, the ranks of one process on wall time and real MPI all run the same ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import torch
from torch import Tensor

from nnlo.comm.base import Channel, Source, Transport
from nnlo.comm.messages import Header, Kind
from nnlo.errors import ProtocolError
from nnlo.flat import HEADER_BYTES

Body = Callable[[Transport], Coroutine[Any, Any, None]]

LARGE = 1 << 20
"""Bytes of a message that no MPI sends before its receiver has asked for it."""


def payload(memory: Tensor, nbytes: int) -> Tensor:
    return memory[HEADER_BYTES:nbytes]


def stamp(sender: int, receiver: int, turn: int) -> int:
    """A byte that tells a message from the others."""
    return (31 * sender + 7 * receiver + turn) % 251


def header(nbytes: int = HEADER_BYTES, version: int = 0) -> Header:
    return Header(Kind.UPDATE, version=version, nbytes=nbytes)


async def receive(transport: Transport, channel: Channel) -> Header:
    await transport.wait([channel])
    return channel.take()


def others(transport: Transport) -> list[int]:
    return [peer for peer in transport.peers if peer != transport.id]


async def meet(transport: Transport) -> None:
    await transport.allgather(b"here")


async def allgather_gives_everyones_bytes_in_order(transport: Transport) -> None:
    for turn in range(3):
        mine = bytes([transport.rank]) * (transport.rank * 1000 + turn)
        told = await transport.allgather(mine)
        assert told == [bytes([rank]) * (rank * 1000 + turn) for rank in range(transport.size)]
    assert await transport.allgather(b"") == [b""] * transport.size


async def ranks_know_where_they_are(transport: Transport) -> None:
    assert transport.peers == tuple(range(transport.size))
    assert transport.id == transport.peers[transport.rank] == transport.rank
    told = await transport.allgather(str(transport.id).encode())
    assert told == [str(peer).encode() for peer in transport.peers]


async def storage_is_zeroed_bytes(transport: Transport) -> None:
    memory = transport.storage(1000)
    assert memory.dtype == torch.uint8 and memory.shape == (1000,) and not memory.any()
    assert transport.storage(1000).data_ptr() != memory.data_ptr()


async def messages_arrive_whole_and_in_order(transport: Transport, nbytes: int = 4096, turns: int = 4) -> None:
    """Everyone sends to everyone at once; the memory of a send that is ready is written again at once."""
    channels = {peer: transport.channel(peer, 3, nbytes) for peer in others(transport)}
    for turn in range(turns):
        for channel in channels.values():
            channel.post()
        sends = []
        for peer, channel in channels.items():
            payload(channel.outgoing, nbytes).fill_(stamp(transport.id, peer, turn))
            sends.append(channel.send(header(nbytes, version=turn)))
        for peer, channel in channels.items():
            assert await receive(transport, channel) == header(nbytes, version=turn)
            got = payload(channel.incoming, nbytes)
            assert got.numel() == nbytes - HEADER_BYTES
            assert torch.equal(got, torch.full_like(got, stamp(peer, transport.id, turn)))
        for send in sends:
            while not send.ready:
                await transport.wait([send])


async def large_messages_cross(transport: Transport) -> None:
    await messages_arrive_whole_and_in_order(transport, LARGE, turns=3)


async def messages_sent_ahead_wait_for_room(transport: Transport) -> None:
    """Several small messages to a peer that has not opened its end yet."""
    first, *rest = transport.peers
    if transport.id != first:
        channel = transport.channel(first, 4, 256)
        memory = [transport.storage(256) for _ in range(5)]
        for turn, one in enumerate(memory):
            channel.send(header(128 + turn, version=turn), one)
    await meet(transport)
    for peer in rest if transport.id == first else ():
        channel = transport.channel(peer, 4, 256)
        for turn in range(5):
            channel.post()
            assert await receive(transport, channel) == header(128 + turn, version=turn)
    await meet(transport)


async def a_message_that_is_to_be_taken_waits_for_room(transport: Transport) -> None:
    """Small ones and headers alone too, which could lie on their way."""
    for tag, nbytes in ((31, HEADER_BYTES), (32, 256), (33, 4096)):
        channels = [transport.channel(peer, tag, nbytes) for peer in others(transport)]
        await meet(transport)
        memories = [transport.storage(nbytes) for _ in channels]
        for memory in memories:
            header(nbytes).write(memory.numpy().data)
        sends = [c.send_written(m, nbytes, until_taken=True) for c, m in zip(channels, memories, strict=True)]
        assert await transport.wait(sends, transport.clock() + 0.05) == []
        await meet(transport)
        for channel in channels:
            channel.post()
        for channel in channels:
            assert (await receive(transport, channel)).nbytes == nbytes
        while pending := [send for send in sends if not send.ready]:
            await transport.wait(pending)


async def a_message_touches_its_own_bytes_alone(transport: Transport) -> None:
    channels = {peer: transport.channel(peer, 5, 512) for peer in others(transport)}
    for channel in channels.values():
        channel.incoming.fill_(9)
        channel.post()
        channel.outgoing.fill_(1)
        channel.send(header(200))
    for channel in channels.values():
        await receive(transport, channel)
        assert channel.incoming[HEADER_BYTES:200].eq(1).all() and channel.incoming[200:].eq(9).all()
    await meet(transport)


async def tags_keep_messages_apart(transport: Transport) -> None:
    pairs = [(transport.channel(peer, 6, 128), transport.channel(peer, 7, 128)) for peer in others(transport)]
    memory = [(transport.storage(128), transport.storage(128)) for _ in pairs]
    for (six, seven), (first, second) in zip(pairs, memory, strict=True):
        six.post()
        seven.post()
        seven.send(header(version=7), first)
        six.send(header(version=6), second)
    for six, seven in pairs:
        assert (await receive(transport, six)).version == 6
        assert (await receive(transport, seven)).version == 7
    await meet(transport)


async def a_star_asks_and_answers(transport: Transport) -> None:
    """As a master and its workers do: one wait over all channels, answers of one memory to several at once."""
    turns, nbytes, first = 20, LARGE // 4, transport.peers[0]
    if transport.id != first:
        channel = transport.channel(first, 8, nbytes)
        for turn in range(turns):
            channel.post()
            channel.send(header(nbytes, version=turn))
            assert (await receive(transport, channel)).version == 1000 + turn
            assert payload(channel.incoming, nbytes).eq(turn).all()
        return
    channels = {transport.channel(peer, 8, nbytes): peer for peer in others(transport)}
    counts = dict.fromkeys(channels, 0)
    for channel in channels:
        channel.post()
    while any(count < turns for count in counts.values()):
        for source in await transport.wait(list(channels)):
            assert isinstance(source, Channel)
            assert source.take().version == counts[source]
            payload(source.outgoing, nbytes).fill_(counts[source])
            source.send(header(nbytes, version=1000 + counts[source]))
            counts[source] += 1
            if counts[source] < turns:
                source.post()


async def messages_outlive_their_memory(transport: Transport, nbytes: int = 4096) -> None:
    """Who sends drops the memory, and asks for more, before anybody has made room."""
    first, *rest = transport.peers
    sends = []
    if transport.id == first:
        for peer in rest:
            memory = transport.storage(nbytes)
            payload(memory, nbytes).fill_(stamp(first, peer, 0))
            sends.append(transport.channel(peer, 20, nbytes).send(header(nbytes), memory))
            del memory
            transport.storage(nbytes).fill_(255)
    await meet(transport)
    if transport.id != first:
        channel = transport.channel(first, 20, nbytes)
        channel.post()
        await receive(transport, channel)
        got = payload(channel.incoming, nbytes)
        assert torch.equal(got, torch.full_like(got, stamp(first, transport.id, 0)))
    for send in sends:
        while not send.ready:
            await transport.wait([send])


async def slots_carry_messages(transport: Transport) -> None:
    """A star whose leaves write each message where the middle reads it, after the one before has left."""
    turns, nbytes, first = 20, LARGE // 4, transport.peers[0]
    if transport.id != first:
        channel = transport.channel(first, 18, nbytes)
        memory = channel.slot(nbytes)
        for turn in range(turns):
            payload(memory, nbytes).fill_(stamp(transport.id, first, turn))
            send = channel.send(header(nbytes, version=turn), memory)
            while not send.ready:
                await transport.wait([send])
        await channel_empty(transport, channel, memory)
        return
    channels = {transport.channel(peer, 18, nbytes): peer for peer in others(transport)}
    counts = dict.fromkeys(channels, 0)
    for channel in channels:
        channel.post()
    while any(count <= turns for count in counts.values()):
        for source in await transport.wait([channel for channel in channels if counts[channel] <= turns]):
            assert isinstance(source, Channel)
            turn = counts[source]
            counts[source] += 1
            assert source.take().version == turn
            got = payload(source.incoming, nbytes)
            if turn < turns:
                assert torch.equal(got, torch.full_like(got, stamp(channels[source], first, turn)))
                source.post()


async def channel_empty(transport: Transport, channel: Channel, memory: Tensor) -> None:
    """A last header, after which nobody makes room any more: it leaves all the same."""
    send = channel.send(header(version=20), memory)
    while not send.ready:
        await transport.wait([send])


async def a_slot_is_where_the_peer_reads(transport: Transport) -> None:
    channels = [transport.channel(peer, 19, 8192) for peer in others(transport)]
    for channel in channels:
        channel.slot(8192)[HEADER_BYTES:].fill_(1 + transport.id)
    await meet(transport)
    for channel in channels:
        assert channel.incoming[HEADER_BYTES:].eq(1 + channel.peer).all()
    await meet(transport)


async def what_one_writes_into_common_memory_all_read(transport: Transport, nbytes: int = 5000) -> None:
    """Where ranks share memory at all; a second piece is another one."""
    if not transport.shares:
        return
    first, second = await transport.common(nbytes), await transport.common(nbytes)
    assert first.shape == (nbytes,) and first.dtype == torch.uint8 and not first.any() and not second.any()
    await transport.allgather(b"")
    first[transport.rank] = 1 + transport.rank
    second[transport.rank] = 101 + transport.rank
    await transport.allgather(b"")
    for memory, start in ((first, 1), (second, 101)):
        assert memory[: transport.size].tolist() == list(range(start, start + transport.size))
        assert not memory[transport.size :].any()


async def wait_gives_up_at_its_deadline(transport: Transport) -> None:
    silent = [transport.channel(peer, 9, 128) for peer in others(transport)]
    for channel in silent:
        channel.post()
    for seconds in (0.05, 0.0):
        deadline = transport.clock() + seconds
        assert await transport.wait(silent, deadline) == []
        assert deadline <= transport.clock() < deadline + 2.0
    assert await transport.wait(silent, transport.clock() - 1.0) == []
    await meet(transport)
    for channel in silent:
        channel.send(header())
    for channel in silent:
        assert await transport.wait([channel], transport.clock() + 20.0) == [channel]
    await meet(transport)


async def wait_gives_all_that_are_ready_and_no_other(transport: Transport) -> None:
    speaking = [transport.channel(peer, 10, 128) for peer in others(transport)]
    silent = [transport.channel(peer, 11, 128) for peer in others(transport)]
    for channel in [*speaking, *silent]:
        channel.post()
    for channel in speaking:
        channel.send(header())
    heard: set[Source] = set()
    while heard != set(speaking):
        ready = await transport.wait([*silent, *(c for c in speaking if c not in heard)])
        assert ready and not heard & set(ready) and not set(ready) & set(silent)
        heard |= set(ready)
    for channel in speaking:
        assert channel.ready
        channel.take()
        assert not channel.ready
    await meet(transport)


async def taking_what_is_not_there_is_refused(transport: Transport) -> None:
    for peer in others(transport):
        channel = transport.channel(peer, 12, 128)
        for _ in range(2):
            try:
                channel.take()
            except ProtocolError as error:
                assert f"rank {peer}" in str(error)
            else:
                raise AssertionError("a message out of nothing")
            channel.post()
            channel.send(header())
            await receive(transport, channel)
    await meet(transport)


async def split_keeps_ids_and_messages_apart(transport: Transport) -> None:
    """Odd and even ranks, the same tag in each group and in the whole; rank 0 in none."""
    color = None if transport.rank == 0 else transport.rank % 2
    group = await transport.split(color)
    assert (group is None) == (color is None)
    if group is not None:
        assert group.peers == tuple(peer for peer in transport.peers if peer and peer % 2 == color)
        assert group.id == transport.id and group.peers[group.rank] == group.id
        told = await group.allgather(str(group.id).encode())
        assert told == [str(peer).encode() for peer in group.peers]
    inner = [group.channel(peer, 13, 256) for peer in others(group)] if group else []
    outer = [transport.channel(peer, 13, 256) for peer in others(transport)]
    for version, channels in ((13, outer), (14, inner)):
        for channel in channels:
            channel.post()
            channel.send(header(version=version))
    for version, channels in ((14, inner), (13, outer)):
        for channel in channels:
            assert (await receive(transport, channel)).version == version
    await meet(transport)


async def one_wait_covers_a_group_and_the_whole(transport: Transport) -> None:
    group = await transport.split(transport.rank % 2)
    assert group is not None
    tasks = [transport.offload(lambda: 1, "whole"), group.offload(lambda: 2, "group")]
    channels = [one.channel(peer, 14, 256) for one in (transport, group) for peer in others(one)]
    for channel in channels:
        channel.post()
        channel.send(header())
    for one in (transport, group):
        waiting: list[Source] = [*channels, *tasks]
        while waiting:
            ready = await one.wait(waiting)
            assert ready
            waiting = [source for source in waiting if source not in ready]
    assert [task.result() for task in tasks] == [1, 2]
    await meet(transport)


async def split_twice_and_within(transport: Transport) -> None:
    halves = await transport.split(int(transport.rank >= transport.size / 2))
    again = await transport.split(int(transport.rank >= transport.size / 2))
    assert halves is not None and again is not None and halves.peers == again.peers
    quarter = await halves.split(halves.rank % 2)
    assert quarter is not None
    assert quarter.peers == halves.peers[halves.rank % 2 :: 2]
    groups = (transport, halves, again, quarter)
    channels = [(k, group.channel(peer, 15, 128)) for k, group in enumerate(groups) for peer in others(group)]
    for k, channel in channels:
        channel.post()
        channel.send(header(version=k))
    for k, channel in reversed(channels):
        assert (await receive(transport, channel)).version == k
    for group in groups:
        assert await group.allgather(bytes([group.id])) == [bytes([peer]) for peer in group.peers]


async def work_aside_comes_back(transport: Transport) -> None:
    done: list[int] = []
    tasks = [transport.offload(lambda k=k: done.append(k) or k * k, "one") for k in range(5)]
    other = transport.offload(lambda: "other", "two")
    waiting: list[Source] = [*tasks, other]
    while waiting:
        ready = await transport.wait(waiting)
        waiting = [source for source in waiting if source not in ready]
    assert [task.result() for task in tasks] == [0, 1, 4, 9, 16]
    assert done == [0, 1, 2, 3, 4]
    assert other.result() == "other"


async def work_aside_that_raises_raises_at_its_result(transport: Transport) -> None:
    task = transport.offload(lambda: 1 // 0, "one")
    await transport.wait([task])
    try:
        task.result()
    except ZeroDivisionError:
        pass
    else:
        raise AssertionError("no error")
    after = transport.offload(lambda: 5, "one")
    await transport.wait([after])
    assert after.result() == 5


async def computing_gives_what_the_work_gives(transport: Transport) -> None:
    assert await transport.compute(lambda: 6 * 7, 4) == 42
    try:
        await transport.compute(lambda: 1 // 0, 4)
    except ZeroDivisionError:
        await meet(transport)
    else:
        raise AssertionError("no error")


async def the_clock_never_goes_back(transport: Transport) -> None:
    seen = [transport.clock()]
    for _ in range(5):
        await meet(transport)
        seen.append(transport.clock())
    assert seen == sorted(seen) and seen[0] >= 0.0
    group = await transport.split(0)
    assert group is not None and group.clock() >= seen[-1]


def memory_of(transport: Transport, values: torch.Tensor, shared: bool) -> torch.Tensor:
    """The same values in memory of the transport's, behind other bytes there, or in torch's."""
    if not shared:
        return values.clone()
    room = transport.storage(64 + values.nbytes)
    return room[64 : 64 + values.nbytes].view(values.dtype).view(values.shape).copy_(values)


async def sums_are_the_same_bits_everywhere(transport: Transport) -> None:
    """Of vectors shorter and longer than the group, many at a time, and done in whatever order they are waited for."""
    lengths, kinds = (1, 2, 7, 33, 100_003), (torch.float32, torch.float64)
    parts = [(n, kind, shared) for n in lengths for kind in kinds for shared in (True, False)]
    for _ in range(2):
        vectors = [torch.arange(n, dtype=kind) * 2.0**transport.rank for n, kind, _ in parts]
        memories = [memory_of(transport, v, shared) for v, (_, _, shared) in zip(vectors, parts, strict=True)]
        under_way = [transport.allreduce(memory) for memory in memories]
        for source in reversed(under_way):
            while not source.ready:
                await transport.wait([source])
        for (n, kind, _), memory in zip(parts, memories, strict=True):
            assert torch.equal(memory, torch.arange(n, dtype=kind) * (2.0**transport.size - 1))


async def memory_that_was_summed_may_change_at_once(transport: Transport) -> None:
    """Nobody reads it any more."""
    memory = memory_of(transport, torch.zeros(4096), True)
    for turn in range(20):
        memory.fill_(float(turn + transport.rank))
        source = transport.allreduce(memory)
        while not source.ready:
            await transport.wait([source])
        wanted = turn * transport.size + sum(range(transport.size))
        assert memory.eq(wanted).all(), turn


async def all_get_every_row_and_what_one_has(transport: Transport) -> None:
    for turn in range(5):
        mine = torch.full((3,), 10.0 * transport.rank + turn, dtype=torch.float64)
        everyone = torch.zeros(transport.size, 3, dtype=torch.float64)
        word = torch.full((2,), float(transport.rank + turn))
        root = turn % transport.size
        under_way = [transport.gather_all(mine, everyone), transport.broadcast(word, root)]
        for source in under_way:
            while not source.ready:
                await transport.wait([source])
        assert everyone[:, 0].tolist() == [10.0 * rank + turn for rank in range(transport.size)]
        assert word.tolist() == [float(root + turn)] * 2


async def groups_sum_among_themselves(transport: Transport) -> None:
    group = await transport.split(transport.rank % 2)
    assert group is not None
    memories = [torch.ones(5) for _ in range(2)]
    under_way = [group.allreduce(memories[0]), transport.allreduce(memories[1])]
    for source in under_way:
        while not source.ready:
            await transport.wait([source])
    assert memories[0].eq(group.size).all() and memories[1].eq(transport.size).all()


BODIES: list[Body] = [
    allgather_gives_everyones_bytes_in_order,
    ranks_know_where_they_are,
    storage_is_zeroed_bytes,
    messages_arrive_whole_and_in_order,
    large_messages_cross,
    messages_sent_ahead_wait_for_room,
    a_message_that_is_to_be_taken_waits_for_room,
    a_message_touches_its_own_bytes_alone,
    tags_keep_messages_apart,
    a_star_asks_and_answers,
    sums_are_the_same_bits_everywhere,
    memory_that_was_summed_may_change_at_once,
    all_get_every_row_and_what_one_has,
    groups_sum_among_themselves,
    slots_carry_messages,
    what_one_writes_into_common_memory_all_read,
    messages_outlive_their_memory,
    wait_gives_up_at_its_deadline,
    wait_gives_all_that_are_ready_and_no_other,
    taking_what_is_not_there_is_refused,
    split_keeps_ids_and_messages_apart,
    one_wait_covers_a_group_and_the_whole,
    split_twice_and_within,
    work_aside_comes_back,
    work_aside_that_raises_raises_at_its_result,
    computing_gives_what_the_work_gives,
    the_clock_never_goes_back,
]


# On wall time alone, where work aside runs beside the rank.


async def work_aside_runs_on_another_thread_while_messages_come(transport: Transport) -> None:
    go = threading.Event()
    task = transport.offload(lambda: (go.wait(20.0), threading.get_ident()), "slow")
    channels = [transport.channel(peer, 16, 128) for peer in others(transport)]
    for channel in channels:
        channel.post()
        channel.send(header())
    for channel in channels:
        await receive(transport, channel)
    assert not task.ready
    go.set()
    await transport.wait([task])
    assert task.result()[0] and task.result()[1] != threading.get_ident()


async def a_waiting_rank_gives_its_core_away(transport: Transport) -> None:
    silent = [transport.channel(peer, 17, 128) for peer in others(transport)]
    for channel in silent:
        channel.post()
    began = time.thread_time()
    await transport.wait(silent, transport.clock() + 0.5)
    assert time.thread_time() - began < 0.2
    for channel in silent:
        channel.send(header())
    for channel in silent:
        await receive(transport, channel)


WALL_TIME_BODIES: list[Body] = [
    work_aside_runs_on_another_thread_while_messages_come,
    a_waiting_rank_gives_its_core_away,
]
