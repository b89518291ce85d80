"""Folds of samples: disjoint, whole, equal, the same everywhere, from all over every file, read in few pieces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlo.comm.virtual import VirtualWorld
from nnlo.data.fold import STRETCHES, Fold
from nnlo.data.index import Index
from nnlo.data.split import Share
from nnlo.errors import DataError, OptionsError
from nnlo.training.seeds import Purpose, derived
from tests.unit.test_data_split import Numbers, rows, trained

COUNTS = st.lists(st.integers(0, 200), min_size=1, max_size=8)
FOLDS = st.integers(2, 12)


def sides(counts: Sequence[int], folds: int, seed: int = 0) -> list[tuple[Share, Share]]:
    index = Index.of([str(i) for i in range(len(counts))], counts)
    return [Fold(number, folds).split(index, seed) for number in range(folds)]


@given(counts=COUNTS, folds=FOLDS, seed=st.integers(0, 2**63 - 1))
def test_every_sample_validates_in_one_fold(counts: list[int], folds: int, seed: int) -> None:
    everything, made = list(range(sum(counts))), sides(counts, folds, seed)
    held = [rows(validates, counts) for _, validates in made]
    assert sorted(sample for one in held for sample in one) == everything
    assert {len(one) for one in held} <= {len(everything) // folds, -(-len(everything) // folds)}
    for (trains, validates), one in zip(made, held, strict=True):
        assert one == sorted(one) and len(one) == validates.samples
        assert rows(trains, counts) == sorted({*everything} - {*one})
        assert trains.samples + validates.samples == sum(counts)
    assert held == [rows(validates, counts) for _, validates in sides(counts, folds, seed)]


def test_folds_come_from_all_over_every_file() -> None:
    """Files sorted by class: each tenth of each file is in all folds, about equally."""
    counts = [1000, 400, 3000]
    begins = np.cumsum([0, *counts])
    for _, validates in sides(counts, 5):
        numbers = np.array(rows(validates, counts))
        for begin, count in zip(begins, counts, strict=False):
            inside = numbers[(numbers >= begin) & (numbers < begin + count)] - begin
            assert np.bincount(inside * 10 // count, minlength=10).min() > 0.4 * count / 50
            assert abs(len(inside) / count - 0.2) < 0.01


def test_a_file_is_read_in_few_pieces() -> None:
    for pair in sides([100_000], 5):
        assert all(len(list(share.parts(0, share.samples))) <= STRETCHES + 1 for share in pair)


@pytest.mark.parametrize("counts", [[500], [1] * 500])
def test_folds_are_drawn_by_the_seed(counts: list[int]) -> None:
    """Also where each file holds one sample: then the order of the list does not say which fold has it."""
    first, other = (tuple(rows(sides(counts, 5, seed)[0][1], counts)) for seed in (1, 2))
    assert first != other
    assert len({sample % 5 for sample in first}) == 5


@pytest.mark.parametrize("ranks", [None, 3])
def test_a_training_on_each_fold(ranks: int | None) -> None:
    files, counts, all_validated = ["0:40", "40:45", "45:130"], [40, 5, 85], set()
    index = Index.of(["0", "1", "2"], counts)
    for number in range(3):
        comm = VirtualWorld(ranks) if ranks else None
        history, (seen, validated) = trained(comm, Numbers(7), files, train_split=Fold(number, 3), seed=3)
        trains, validates = (rows(one, counts) for one in Fold(number, 3).split(index, derived(3, Purpose.SPLIT)))
        assert (history["train_samples"], history["val_samples"]) == (len(trains), len(validates))
        assert seen == sorted(2 * trains)
        assert set(validated) - set(seen[:4]) == set(validates)  # but for two samples tried before training
        all_validated |= set(validates)
    assert all_validated == set(range(130))


@pytest.mark.parametrize(("number", "count"), [(0, 1), (3, 3), (-1, 3), (0, 0)])
def test_folds_that_are_none(number: int, count: int) -> None:
    with pytest.raises(OptionsError, match=f"--n-fold: there is no fold {number} of {count}: make 2 or more"):
        Fold(number, count)


def test_a_fold_beside_validation_data() -> None:
    with pytest.raises(OptionsError, match="--n-fold validates on a part of the training data: drop it or --val-data"):
        trained(None, Numbers(4), ["0:40"], train_split=Fold(0, 2), val_data=Numbers(4))


def test_more_folds_than_samples() -> None:
    with pytest.raises(DataError, match="--n-fold 21 is more than the 20 samples that the files hold") as caught:
        trained(VirtualWorld(3), Numbers(4), ["0:20"], train_split=Fold(20, 21))
    assert caught.value.agreed


def test_a_generator_has_no_folds_of_samples() -> None:
    class Own(Numbers):
        def generate_data(self):
            yield self.load_data("0:4")

    with pytest.raises(OptionsError, match=r"--n-fold is not for it: generate_data\(\) of Own makes its own batches"):
        trained(VirtualWorld(3), Own(4), [], train_split=Fold(0, 2))
