"""Memory that ranks of a host share: zeroed, found again, given back, mapped by others."""

from __future__ import annotations

import gc
import os

import pytest
import torch

from nnlo.comm.segments import PAGE, Segments, mapped

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no memfd_create")


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("nbytes", [1, 64, PAGE, PAGE + 1, 10**6])
def test_memory_is_zeroed_and_found(nbytes: int) -> None:
    segments = Segments()
    memory = segments.storage(nbytes)
    assert memory.shape == (nbytes,) and not memory.any()
    for start in (0, nbytes // 2):
        segment, where = segments.find(memory[start:]) or pytest.fail("not found")
        assert where == start
        assert segment.nbytes % PAGE == 0 and segment.nbytes >= nbytes


def test_memory_from_elsewhere_is_not_found() -> None:
    assert Segments().find(torch.zeros(8, dtype=torch.uint8)) is None


def test_others_see_what_is_written() -> None:
    segments = Segments()
    memory = segments.storage(100)
    segment, _ = segments.find(memory) or pytest.fail("not found")
    there = mapped(os.dup(segment.descriptor))
    memory[7] = 5
    assert there[7] == 5
    there[8] = 6
    assert memory[8] == 6


def test_a_segment_is_used_again_once_no_view_of_it_is_left() -> None:
    segments = Segments()
    memory = segments.storage(100)
    first, _ = segments.find(memory) or pytest.fail("not found")
    view = memory.fill_(3)[64:96].view(torch.float32)
    del memory
    gc.collect()
    other = segments.storage(100)
    assert segments.find(other) != (first, 0)
    del view
    gc.collect()
    again = segments.storage(100)
    assert segments.find(again) == (first, 0)
    assert not again.any()


def test_no_descriptor_is_left() -> None:
    before = open_descriptors()
    for _ in range(3):
        segments = Segments()
        memory = [segments.storage(5000) for _ in range(4)]
        assert open_descriptors() > before
        del memory, segments
        gc.collect()
    assert open_descriptors() == before
