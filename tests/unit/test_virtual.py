"""The virtual clock: what things cost on it, what goes wrong on it, and that ranks share nothing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nnlo.comm.base import Channel, Send, Source, Transport
from nnlo.comm.costs import Costs, Fault, FaultInjected, FaultKind, Host
from nnlo.comm.messages import Header, Kind
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import PeerLost, ProtocolError
from tests.transport_bodies import BODIES, Body, meet, receive

EXACT = Costs(compute=1.0, latency=0.5, bandwidth=1024.0, local_latency=0.25, local_bandwidth=4096.0, notice=3.0)
"""Seconds a sample, seconds and bytes a second: all exact in binary."""


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_transport(body: Body, size: int) -> None:
    VirtualWorld(size).run(body)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_transport_on_shared_hosts_at_a_cost(body: Body) -> None:
    hosts = [Host((0, 3)), Host((1, 2, 4), 2)]
    VirtualWorld(5, hosts=hosts, costs=Costs(jitter=0.3, offload=1e-4, latency=1e-3, bandwidth=1e8)).run(body)


def times(world: VirtualWorld, *mains: Any) -> list[Any]:
    """What each rank's own coroutine returns."""
    found: list[Any] = [None] * world.size

    async def main(transport: Transport) -> None:
        found[transport.id] = await mains[transport.id](transport)

    world.run(main)
    return found


async def worked(transport: Transport, *samples: int) -> list[float]:
    """The clock after each of several computations."""
    seen = []
    for count in samples:
        await transport.compute(lambda: None, count)
        seen.append(transport.clock())
    return seen


# Computing.


def test_a_sample_costs_its_time() -> None:
    world = VirtualWorld(2, costs=Costs(compute=0.5))
    assert times(world, lambda t: worked(t, 4), lambda t: worked(t, 1, 3, 0)) == [[2.0], [0.5, 2.0, 2.0]]


def test_ranks_of_unlike_speed() -> None:
    world = VirtualWorld(3, costs=Costs(compute=lambda peer, samples: float(samples << peer)))
    assert times(world, *[lambda t: worked(t, 1, 1)] * 3) == [[1.0, 2.0], [2.0, 4.0], [4.0, 8.0]]


@pytest.mark.parametrize(
    ("cores", "work", "ends"),
    [
        (1, (2, 2), [4.0, 4.0]),  # half the speed for both
        (2, (2, 2), [2.0, 2.0]),
        (1, (1, 3), [2.0, 4.0]),  # half, until the first is done
        (2, (1, 1, 4), [1.5, 1.5, 4.5]),  # two thirds, until all have done 1
        (3, (1, 2), [1.0, 2.0]),
    ],
)
def test_ranks_share_the_cores_of_their_host(cores: int, work: Sequence[int], ends: list[float]) -> None:
    world = VirtualWorld(len(work), hosts=[Host(tuple(range(len(work))), cores)], costs=Costs(compute=1.0))
    found = times(world, *[lambda t, n=n: worked(t, n) for n in work])
    assert [end for (end,) in found] == pytest.approx(ends, rel=1e-12)


def test_one_host_leaves_another_alone() -> None:
    world = VirtualWorld(3, hosts=[Host((0, 1)), Host((2,))], costs=Costs(compute=1.0))
    assert times(world, *[lambda t: worked(t, 2)] * 3) == [[4.0], [4.0], [2.0]]


def test_work_aside_takes_its_time_on_the_same_cores() -> None:
    async def both(transport: Transport) -> tuple[float, float]:
        task = transport.offload(lambda: None, "aside", samples=4)
        await transport.compute(lambda: None, 4)
        computed = transport.clock()
        await transport.wait([task])
        return computed, transport.clock()

    costs = Costs(compute=0.5, offload=1.0)
    assert times(VirtualWorld(1, costs=costs), both) == [(4.0, 6.0)]
    assert times(VirtualWorld(1, hosts=[Host((0,), 2)], costs=costs), both) == [(2.0, 4.0)]


def test_work_aside_of_one_name_comes_one_after_another() -> None:
    async def main(transport: Transport) -> list[float]:
        tasks = [transport.offload(lambda: None, name, samples=2) for name in ("one", "one", "two")]
        ends = []
        for task in tasks:
            await transport.wait([task])
            ends.append(transport.clock())
        return ends

    world = VirtualWorld(1, hosts=[Host((0,), 4)], costs=Costs(offload=1.0))
    assert times(world, main) == [[2.0, 4.0, 4.0]]


def test_jitter_is_drawn_for_each_rank_from_the_seed() -> None:
    def run(seed: int) -> list[list[float]]:
        world = VirtualWorld(2, costs=Costs(compute=1.0, jitter=0.2), seed=seed)
        first = times(world, *[lambda t: worked(t, *[1] * 200)] * 2)
        assert times(world, *[lambda t: worked(t, *[1] * 200)] * 2) == first
        return first

    first, other = run(0), run(1)
    assert first != other and first[0] != first[1]
    spread = np.diff(first[0])
    assert 0.15 < spread.std() < 0.25 and abs(spread.mean() - 1.0) < 0.05


# Messages.


async def sent(transport: Transport, peer: int, sizes: Sequence[int], tag: int = 1) -> list[float]:
    """When each of some messages, sent at once, has left."""
    channel = transport.channel(peer, tag, max(sizes))
    sends: list[Send] = [channel.send(Header(Kind.UPDATE, nbytes=n), transport.storage(n)) for n in sizes]
    ends = []
    for send in sends:
        while not send.ready:
            await transport.wait([send])
        ends.append(transport.clock())
    return ends


async def got(transport: Transport, peer: int, count: int, nbytes: int = 4096, tag: int = 1) -> list[float]:
    """When each of `count` messages was there."""
    channel = transport.channel(peer, tag, nbytes)
    ends = []
    for _ in range(count):
        channel.post()
        await receive(transport, channel)
        ends.append(transport.clock())
    return ends


def test_a_message_takes_latency_and_its_bytes() -> None:
    world = VirtualWorld(2, costs=EXACT)
    assert times(world, lambda t: sent(t, 1, [1024]), lambda t: got(t, 0, 1)) == [[1.0], [1.5]]


def test_messages_of_one_sender_queue_on_its_link() -> None:
    world = VirtualWorld(3, costs=EXACT)
    assert times(world, lambda t: sent(t, 1, [1024, 512]), lambda t: got(t, 0, 2), lambda t: worked(t, 0)) == [
        [1.0, 1.5],
        [1.5, 2.0],
        [0.0],
    ]


def test_messages_to_one_receiver_queue_on_its_link() -> None:
    async def master(transport: Transport) -> list[float]:
        return await came(transport, [transport.channel(peer, 1, 1024) for peer in (1, 2, 3)])

    worker = lambda t: sent(t, 0, [1024])  # noqa: E731
    found = times(VirtualWorld(4, costs=EXACT), master, worker, worker, worker)
    assert found == [[1.5, 2.5, 3.5], [1.0], [1.0], [1.0]]


def test_the_two_ways_of_a_link_are_apart() -> None:
    async def both(transport: Transport) -> float:
        channel = transport.channel(1 - transport.id, 1, 1024)
        channel.post()
        channel.send(Header(Kind.UPDATE, nbytes=1024))
        await receive(transport, channel)
        return transport.clock()

    assert times(VirtualWorld(2, costs=EXACT), both, both) == [1.5, 1.5]


def test_messages_within_a_host_do_not_queue() -> None:
    world = VirtualWorld(2, hosts=[Host((0, 1), 2)], costs=EXACT)
    assert times(world, lambda t: sent(t, 1, [1024, 1024]), lambda t: got(t, 0, 2)) == [[0.25, 0.25], [0.5, 0.5]]


def test_a_small_message_does_not_overtake_a_large_one_of_its_channel() -> None:
    """The first is there after 1/4 s for its bytes and 1/4 s; the second would need 1/64 s and 1/4 s."""
    world = VirtualWorld(2, hosts=[Host((0, 1), 2)], costs=EXACT)
    assert times(world, lambda t: sent(t, 1, [1024, 64]), lambda t: got(t, 0, 2))[1] == [0.5, 0.5]


def test_what_is_sent_is_what_was_there_then() -> None:
    async def sender(transport: Transport) -> None:
        channel = transport.channel(1, 1, 128)
        channel.outgoing[64:].fill_(5)
        channel.send(Header(Kind.UPDATE, nbytes=128))
        channel.outgoing[64:].fill_(6)

    async def receiver(transport: Transport) -> list[int]:
        channel = transport.channel(0, 1, 128)
        channel.post()
        await receive(transport, channel)
        return channel.incoming[64:].unique().tolist()

    assert times(VirtualWorld(2, costs=EXACT), sender, receiver)[1] == [5]


# Handling.


async def came(transport: Transport, channels: Sequence[Channel]) -> list[float]:
    """When the message of each channel had been taken, one after another."""
    ends = []
    for channel in channels:
        channel.post()
    for channel in channels:
        await receive(transport, channel)
        ends.append(transport.clock())
    return ends


async def got_and_worked(transport: Transport, peer: int, count: int = 1) -> list[float]:
    """When each message was there, and when a computation of one sample after them had ended."""
    return [*await got(transport, peer, count), *await worked(transport, 1)]


@pytest.mark.parametrize(
    "costs",
    [
        replace(EXACT, handling=2.0),
        replace(EXACT, touching=2.0 / 1024),
        replace(EXACT, handling=1.5, touching=0.5 / 1024),
        replace(EXACT, handling=lambda peer, message: message.numel() / 512),
    ],
    ids=["a message", "a byte", "both", "a function"],
)
def test_a_message_costs_its_sender_and_its_receiver(costs: Costs) -> None:
    """Two seconds each: it begins to leave after 2, has left after 1 more, is there after 0.5 more, is in after 2."""
    found = times(VirtualWorld(2, costs=costs), lambda t: sent(t, 1, [1024]), lambda t: got_and_worked(t, 0))
    assert found == [[3.0], [3.5, 3.5 + 2.0 + 1.0]]


def test_handling_may_differ_by_rank() -> None:
    costs = replace(EXACT, handling=lambda peer, message: 4.0 * peer)
    found = times(VirtualWorld(2, costs=costs), lambda t: sent(t, 1, [1024]), lambda t: got_and_worked(t, 0))
    assert found == [[1.0], [1.5, 1.5 + 4.0 + 1.0]]


def test_what_is_sent_at_once_leaves_one_after_another() -> None:
    """The first leaves from 2 to 3; the second is written until 4, and leaves until 5."""
    world = VirtualWorld(2, costs=replace(EXACT, handling=2.0))
    ends = [3.5, 5.5]  # the first is taken in until 5.5, when the second is there, too
    assert times(world, lambda t: sent(t, 1, [1024, 1024]), lambda t: got(t, 0, 2)) == [[4.0, 5.0], ends]


def test_who_takes_is_not_back_before_that_is_paid() -> None:
    """Both messages are there after 1.5; the second is looked for after 4 more, a wait until 3 ends then too."""

    async def main(transport: Transport) -> list[float]:
        channels = [transport.channel(peer, 1, 512) for peer in (1, 2)]
        ends = await came(transport, channels)
        channels[0].post()
        assert await transport.wait(channels[:1], 3.0) == []
        return [*ends, transport.clock()]

    costs = replace(EXACT, handling=lambda peer, message: 0.0 if peer else 4.0)
    world = VirtualWorld(3, costs=costs)
    found = times(world, main, *[lambda t: sent(t, 0, [512])] * 2)
    assert found == [[1.0, 5.0, 9.0], [0.5], [0.5]]


def test_handling_shares_the_cores_of_the_host() -> None:
    """Two seconds of work for each on one core: 4. Then a quarter for the bytes, and a quarter; a core of its own."""
    world = VirtualWorld(2, hosts=[Host((0, 1))], costs=replace(EXACT, handling=2.0))

    async def computes_and_gets(transport: Transport) -> list[float]:
        return [*await worked(transport, 2), *await got_and_worked(transport, 0)]

    assert times(world, lambda t: sent(t, 1, [1024]), computes_and_gets) == [[4.25], [4.0, 4.5, 4.5 + 2.0 + 1.0]]


def test_one_who_owes_joins_a_collective_later() -> None:
    """One comes at 2, then two steps of half a second and 1024 bytes on each link."""

    async def reduces(transport: Transport) -> float:
        if transport.id == 0:
            transport.channel(1, 1, 64).send(Header(Kind.HELLO))
        await waited(transport, [transport.allreduce(torch.ones(256))])
        return transport.clock()

    assert times(VirtualWorld(2, costs=replace(EXACT, handling=2.0)), reduces, reduces) == [4.0, 4.0]


def test_the_dead_have_sent_what_they_sent() -> None:
    """It leaves at 2, is there at 2 + 1/16 + 0.5, and it is noticed 3 s after 2 that there comes nothing more."""

    async def dies(transport: Transport) -> None:
        transport.channel(0, 1, 64).send(Header(Kind.HELLO))
        await transport.compute(lambda: None, 1)

    async def survives(transport: Transport) -> list[float]:
        ends = await got(transport, 1, 1, 64)
        return [*ends, await lost_at(transport)]

    async def lost_at(transport: Transport) -> float:
        other = transport.channel(1, 2, 64)
        other.post()
        with pytest.raises(PeerLost):
            await receive(transport, other)
        return transport.clock()

    world = VirtualWorld(2, costs=replace(EXACT, handling=2.0), faults=[Fault(1, 0, FaultKind.DIE)])
    assert times(world, survives, dies) == [[2.5625, 5.0], None]


def test_a_busy_master_sets_the_pace() -> None:
    """An exchange takes it a second, and there is always a worker that waits: each second one of them is answered.

    At 6 the first is there again and the third is still: those who are ready have their turns in order.
    """
    exchanges = 3

    async def master(transport: Transport) -> float:
        channels = {peer: transport.channel(peer, 1, 64) for peer in (1, 2, 3)}
        left = dict.fromkeys(channels.values(), exchanges)
        for channel in left:
            channel.post()
        while left:
            for source in await transport.wait(list(left)):
                assert isinstance(source, Channel)
                source.take()
                source.send(Header(Kind.REPLY))
                left[source] -= 1
                if left[source]:
                    source.post()
                else:
                    del left[source]
        return transport.clock()

    async def worker(transport: Transport) -> list[float]:
        channel, ends = transport.channel(0, 1, 64), []
        for _ in range(exchanges):
            await transport.compute(lambda: None, 1)
            channel.post()
            channel.send(Header(Kind.UPDATE))
            await receive(transport, channel)
            ends.append(transport.clock())
        return ends

    free = {"latency": 0.0, "bandwidth": float("inf")}
    costs = replace(EXACT, **free, handling=lambda peer, message: 0.0 if peer else 0.5)
    found = times(VirtualWorld(4, costs=costs), master, worker, worker, worker)
    assert found == [9.0, [2.0, 5.0, 7.0], [3.0, 6.0, 9.0], [4.0, 8.0, 10.0]]  # its last exchange begins at 9


# Groups.


def test_a_meeting_waits_for_the_last() -> None:
    async def late(transport: Transport) -> float:
        await transport.compute(lambda: None, transport.id)
        await meet(transport)
        return transport.clock()

    assert times(VirtualWorld(3, costs=EXACT), late, late, late) == [2.5, 2.5, 2.5]


@pytest.mark.parametrize(("count", "end"), [(1, 1 + 1), (3, 1 + 3)])
def test_collectives_share_the_links_of_their_group(count: int, end: float) -> None:
    """Of two ranks: two steps of half a second each, and 1024 bytes on each link; those of two groups are apart."""

    async def reduces(transport: Transport) -> float:
        group = await transport.split(transport.rank // 2)
        assert group is not None
        began = transport.clock()
        await waited(group, [group.allreduce(torch.ones(256)) for _ in range(count)])
        return transport.clock() - began

    assert times(VirtualWorld(4, costs=EXACT), *[reduces] * 4) == [end] * 4


async def waited(transport: Transport, sources: Sequence[Source]) -> None:
    while pending := [source for source in sources if not source.ready]:
        await transport.wait(pending)


@pytest.mark.parametrize("other", ["gather", "longer", "type", "root"])
def test_ranks_that_start_unlike_collectives_are_told(other: str) -> None:
    async def main(transport: Transport) -> None:
        odd, memory = transport.rank == 1, torch.ones(4)
        starts = {
            "gather": lambda: transport.gather_all(memory, torch.ones(2, 4)) if odd else transport.allreduce(memory),
            "longer": lambda: transport.allreduce(torch.ones(5) if odd else memory),
            "type": lambda: transport.allreduce(memory.double() if odd else memory),
            "root": lambda: transport.broadcast(memory, int(odd)),
        }
        await transport.wait([starts[other]()])

    with pytest.raises(ProtocolError, match=r"rank 1 starts a.* where others start a"):
        VirtualWorld(2).run(main)


def test_a_deadline_is_kept_to_the_bit() -> None:
    async def main(transport: Transport) -> tuple[float, float]:
        silent = transport.channel(1 - transport.id, 1, 128)
        silent.post()
        assert await transport.wait([silent], 0.7) == []
        at = transport.clock()
        assert await transport.wait([silent], 0.1) == []
        return at, transport.clock()

    assert times(VirtualWorld(2), main, main) == [(0.7, 0.7)] * 2


def test_a_channel_is_opened_once() -> None:
    async def main(transport: Transport) -> None:
        transport.channel(1 - transport.id, 1, 128)
        transport.channel(1 - transport.id, 1, 128)

    with pytest.raises(ProtocolError, match="rank 0 opens its channel 1 to rank 1 twice"):
        VirtualWorld(2).run(main)


# Faults.


def striking(kind: FaultKind, step: int, seconds: float = 0.0) -> VirtualWorld:
    return VirtualWorld(3, costs=EXACT, faults=[Fault(1, step, kind, seconds)])


def test_a_stall_takes_longer() -> None:
    found = times(striking(FaultKind.STALL, 1, 10.0), *[lambda t: worked(t, 1, 1, 1)] * 3)
    assert found == [[1.0, 2.0, 3.0], [1.0, 12.0, 13.0], [1.0, 2.0, 3.0]]


def test_a_rank_that_raises_ends_the_world() -> None:
    with pytest.raises(FaultInjected, match="rank 1 fails at step 2"):
        times(striking(FaultKind.RAISE, 2), *[lambda t: worked(t, 1, 1, 1)] * 3)


def test_the_dead_are_noticed_and_what_they_sent_before_is_read() -> None:
    async def dies(transport: Transport) -> None:
        channel = transport.channel(0, 1, 64)
        channel.send(Header(Kind.HELLO))
        await transport.compute(lambda: None, 1)
        raise AssertionError("lives on")

    async def survives(transport: Transport) -> tuple[Kind, float]:
        channel = transport.channel(1, 1, 64)
        channel.post()
        header = await receive(transport, channel)
        channel.post()
        with pytest.raises(PeerLost, match="rank 1 is lost") as caught:
            await receive(transport, channel)
        assert caught.value.peer == 1
        return header.kind, transport.clock()

    world = striking(FaultKind.DIE, 0)
    found = times(world, survives, dies, lambda t: worked(t, 1))
    assert found == [(Kind.HELLO, 3.0), None, [1.0]]


@pytest.mark.parametrize(("late", "end"), [(1, 3.5), (8, 8.5)])
def test_nobody_waits_for_the_dead_to_meet(late: int, end: float) -> None:
    """Whether the last of the others comes before it is known that one is dead, or after."""

    async def main(transport: Transport) -> tuple[list[bytes], float]:
        await transport.compute(lambda: None, late if transport.id == 2 else 1)
        told = await transport.allgather(bytes([transport.id]))
        return told, transport.clock()

    found = times(striking(FaultKind.DIE, 0), main, main, main)
    assert found == [([b"\0", b"\2"], end), None, ([b"\0", b"\2"], end)]


def test_faults_strike_again_in_another_run() -> None:
    world = striking(FaultKind.RAISE, 0)
    for _ in range(2):
        with pytest.raises(FaultInjected):
            times(world, *[lambda t: worked(t, 1)] * 3)


def test_ranks_that_wait_for_ever_are_named() -> None:
    async def main(transport: Transport) -> None:
        if transport.id:
            await receive(transport, transport.channel(0, 1, 128))

    with pytest.raises(ProtocolError, match="ranks 1, 2 wait for what never comes"):
        VirtualWorld(3).run(main)


def test_a_meeting_that_one_rank_misses_is_reported() -> None:
    async def main(transport: Transport) -> None:
        if transport.id != 1:
            await meet(transport)

    with pytest.raises(ProtocolError, match="ranks 0, 2 wait"):
        VirtualWorld(3).run(main)


# The world.


def test_every_rank_has_a_host() -> None:
    for hosts in ([Host((0,))], [Host((0, 1, 2))], [Host((0, 1)), Host((1,))]):
        with pytest.raises(ValueError, match="the hosts must hold the ranks 0 to 1, each once"):
            VirtualWorld(2, hosts=hosts)


def test_run_returns_what_rank_0_returns_and_begins_anew() -> None:
    async def main(transport: Transport) -> tuple[int, float]:
        await transport.compute(lambda: None, 1)
        transport.channel((transport.id + 1) % 2, 1, 64)
        return transport.id, transport.clock()

    world = VirtualWorld(2, costs=EXACT)
    assert world.run(main) == world.run(main) == (0, 1.0)


def draw() -> tuple[float, float, float]:
    return torch.rand(()).item(), np.random.rand(), random.random()


def test_every_rank_has_random_streams_of_its_own() -> None:
    """What a rank draws depends on its seed alone, not on whose turn came between."""

    async def main(transport: Transport) -> list[tuple[float, float, float]]:
        torch.manual_seed(transport.id)
        np.random.seed(transport.id)
        random.seed(transport.id)
        drawn = []
        for _ in range(5):
            drawn.append(await transport.compute(draw, 1 + transport.id % 2))
        return drawn

    alone = []
    for rank in range(4):
        torch.manual_seed(rank)
        np.random.seed(rank)
        random.seed(rank)
        alone.append([draw() for _ in range(5)])
    assert times(VirtualWorld(4), *[main] * 4) == alone


def test_the_callers_random_streams_go_on_as_if_nothing_had_been() -> None:
    async def main(transport: Transport) -> None:
        torch.manual_seed(0)
        await transport.compute(draw, 1)

    def after(run: bool) -> tuple[float, float, float]:
        torch.manual_seed(11)
        np.random.seed(11)
        random.seed(11)
        if run:
            VirtualWorld(2).run(main)
        return draw()

    assert after(run=True) == after(run=False)
