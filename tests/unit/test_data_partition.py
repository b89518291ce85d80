"""Parts of the training samples that belong to workers."""

from __future__ import annotations

import numpy as np
import pytest

from nnlo.data.index import Index
from nnlo.data.partition import Part, evenly
from nnlo.data.split import split


def places(index: Index) -> list[tuple[str, int]]:
    """(file, row) of each sample, in order."""
    return [(file, row) for file, low, high in index.parts(0, index.samples) for row in range(low, high)]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
@pytest.mark.parametrize("held", [False, True])
def test_parts_are_equal_disjoint_and_all(workers: int, held: bool) -> None:
    whole: Index = Index.of(["a", "b", "c"], [50, 1, 32])
    if held:
        whole = split(whole, 0.7, seed=3)[0]
    parts = evenly(whole, workers, seed=1)
    sizes = [part.samples for part in parts]
    assert max(sizes) - min(sizes) <= 1
    found = [place for part in parts for place in places(part)]
    assert sorted(found) == sorted(places(whole))
    assert len(set(found)) == len(found)


def test_each_part_has_samples_from_all_over_a_file() -> None:
    for part in evenly(Index.of(["sorted"], [10_000]), 5, seed=0):
        rows = np.array([row for _, row in places(part)])
        assert (np.histogram(rows, bins=10, range=(0, 10_000))[0] > 100).all()


def test_parts_follow_the_seed() -> None:
    index = Index.of(["a"], [100])
    one, same, other = (places(evenly(index, 4, seed)[0]) for seed in (1, 1, 2))
    assert one == same != other


def test_places_of_a_part_are_those_of_what_it_is_a_part_of() -> None:
    inner = Part.within(Index.of(["a", "b"], [10, 10]), [[(2, 5), (7, 9)], [(0, 2)]])
    assert places(inner) == [("a", 2), ("a", 3), ("a", 4), ("a", 7), ("a", 8), ("b", 0), ("b", 1)]
    assert places(Part.within(inner, [[(1, 4)], []])) == [("a", 3), ("a", 4), ("a", 7)]
