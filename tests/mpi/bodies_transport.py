"""Bodies for test_transport.py: what every transport must do, over real MPI."""

from __future__ import annotations

from mpi4py import MPI

from nnlo.comm.base import Transport
from nnlo.comm.mpi import MpiWorld
from tests import transport_bodies as bodies


def run(comm: MPI.Intracomm, body: bodies.Body) -> None:
    """By MPI's messages, and by memory that the ranks share."""
    for transport in ("mpi", "shm"):
        MpiWorld(comm, transport=transport).run(body)


def body_a_slot_is_where_the_peer_reads(comm: MPI.Intracomm) -> None:
    MpiWorld(comm, transport="shm").run(bodies.a_slot_is_where_the_peer_reads)


def body_messages_outlive_their_memory(comm: MPI.Intracomm) -> None:
    run(comm, bodies.messages_outlive_their_memory)


def body_what_one_writes_into_common_memory_all_read(comm: MPI.Intracomm) -> None:
    MpiWorld(comm, transport="shm").run(shares)
    run(comm, bodies.what_one_writes_into_common_memory_all_read)


async def shares(transport: Transport) -> None:
    assert transport.shares


def body_slots_carry_messages(comm: MPI.Intracomm) -> None:
    run(comm, bodies.slots_carry_messages)


def body_allgather_gives_everyones_bytes_in_order(comm: MPI.Intracomm) -> None:
    run(comm, bodies.allgather_gives_everyones_bytes_in_order)


def body_ranks_know_where_they_are(comm: MPI.Intracomm) -> None:
    run(comm, bodies.ranks_know_where_they_are)


def body_storage_is_zeroed_bytes(comm: MPI.Intracomm) -> None:
    run(comm, bodies.storage_is_zeroed_bytes)


def body_messages_arrive_whole_and_in_order(comm: MPI.Intracomm) -> None:
    run(comm, bodies.messages_arrive_whole_and_in_order)


def body_large_messages_cross(comm: MPI.Intracomm) -> None:
    run(comm, bodies.large_messages_cross)


def body_messages_sent_ahead_wait_for_room(comm: MPI.Intracomm) -> None:
    run(comm, bodies.messages_sent_ahead_wait_for_room)


def body_a_message_that_is_to_be_taken_waits_for_room(comm: MPI.Intracomm) -> None:
    run(comm, bodies.a_message_that_is_to_be_taken_waits_for_room)


def body_a_message_touches_its_own_bytes_alone(comm: MPI.Intracomm) -> None:
    run(comm, bodies.a_message_touches_its_own_bytes_alone)


def body_tags_keep_messages_apart(comm: MPI.Intracomm) -> None:
    run(comm, bodies.tags_keep_messages_apart)


def body_a_star_asks_and_answers(comm: MPI.Intracomm) -> None:
    run(comm, bodies.a_star_asks_and_answers)


def body_wait_gives_up_at_its_deadline(comm: MPI.Intracomm) -> None:
    run(comm, bodies.wait_gives_up_at_its_deadline)


def body_wait_gives_all_that_are_ready_and_no_other(comm: MPI.Intracomm) -> None:
    run(comm, bodies.wait_gives_all_that_are_ready_and_no_other)


def body_taking_what_is_not_there_is_refused(comm: MPI.Intracomm) -> None:
    run(comm, bodies.taking_what_is_not_there_is_refused)


def body_split_keeps_ids_and_messages_apart(comm: MPI.Intracomm) -> None:
    run(comm, bodies.split_keeps_ids_and_messages_apart)


def body_one_wait_covers_a_group_and_the_whole(comm: MPI.Intracomm) -> None:
    run(comm, bodies.one_wait_covers_a_group_and_the_whole)


def body_split_twice_and_within(comm: MPI.Intracomm) -> None:
    run(comm, bodies.split_twice_and_within)


def body_work_aside_comes_back(comm: MPI.Intracomm) -> None:
    run(comm, bodies.work_aside_comes_back)


def body_work_aside_that_raises_raises_at_its_result(comm: MPI.Intracomm) -> None:
    run(comm, bodies.work_aside_that_raises_raises_at_its_result)


def body_computing_gives_what_the_work_gives(comm: MPI.Intracomm) -> None:
    run(comm, bodies.computing_gives_what_the_work_gives)


def body_the_clock_never_goes_back(comm: MPI.Intracomm) -> None:
    run(comm, bodies.the_clock_never_goes_back)


def body_work_aside_runs_on_another_thread_while_messages_come(comm: MPI.Intracomm) -> None:
    run(comm, bodies.work_aside_runs_on_another_thread_while_messages_come)


def body_a_waiting_rank_gives_its_core_away(comm: MPI.Intracomm) -> None:
    run(comm, bodies.a_waiting_rank_gives_its_core_away)


def body_sums_are_the_same_bits_everywhere(comm: MPI.Intracomm) -> None:
    run(comm, bodies.sums_are_the_same_bits_everywhere)


def body_memory_that_was_summed_may_change_at_once(comm: MPI.Intracomm) -> None:
    run(comm, bodies.memory_that_was_summed_may_change_at_once)


def body_all_get_every_row_and_what_one_has(comm: MPI.Intracomm) -> None:
    run(comm, bodies.all_get_every_row_and_what_one_has)


def body_groups_sum_among_themselves(comm: MPI.Intracomm) -> None:
    run(comm, bodies.groups_sum_among_themselves)
