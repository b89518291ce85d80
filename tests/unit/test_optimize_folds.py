"""Folds: disjoint, whole and equal; who trains them; their mean and spread."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnlo.errors import DataError, OptionsError
from nnlo.optimize.folds import file_folds, fold_groups, pooled, scored


@given(files=st.integers(2, 40), folds=st.integers(2, 40), seed=st.integers(0, 2**63 - 1))
def test_every_file_validates_once(files: int, folds: int, seed: int) -> None:
    folds = min(folds, files)
    names = [f"{number}.h5" for number in range(files)]
    made = file_folds(names, folds, seed)
    assert len(made) == folds
    assert Counter(file for fold in made for file in fold.validates) == Counter(names)
    assert {len(fold.validates) for fold in made} <= {files // folds, -(-files // folds)}
    for fold in made:
        assert list(fold.trains) == [name for name in names if name not in fold.validates]
        assert list(fold.validates) == sorted(fold.validates, key=names.index)
    assert made == file_folds(names, folds, seed)


def test_files_are_drawn_by_the_seed() -> None:
    names = [str(number) for number in range(30)]
    first, other = (file_folds(names, 3, seed)[0].validates for seed in (1, 2))
    assert len({first, other, tuple(names[:10]), tuple(names[::3])}) == 4


def test_more_folds_than_files() -> None:
    with pytest.raises(OptionsError, match=r"--n-fold 4: there are 3 files in all.*or give --fold-by samples"):
        file_folds(["a", "b", "c"], 4, 0)


def test_both_lists_are_pooled(tmp_path: Path) -> None:
    listed = tmp_path / "train.list"
    listed.write_text("a\nb\n")
    assert pooled(listed, ["c", "b", "d"]) == ["a", "b", "c", "d"]
    assert pooled(["a"], None) == ["a"]
    with pytest.raises(DataError, match="--val-data"):
        pooled(listed, tmp_path / "none")


@pytest.mark.parametrize(
    ("ranks", "folds", "wanted"),
    [
        (6, 3, [((0, 1), (0,)), ((2, 3), (1,)), ((4, 5), (2,))]),
        (8, 3, [((0, 1, 2), (0,)), ((3, 4, 5), (1,)), ((6, 7), (2,))]),
        (5, 3, [((0, 1, 2), (0, 1)), ((3, 4), (2,))]),
        (5, 5, [((0, 1, 2), (0, 1, 2)), ((3, 4), (3, 4))]),
        (3, 4, [((0, 1, 2), (0, 1, 2, 3))]),
        (1, 2, [((0,), (0, 1))]),
        (4, 1, [((0, 1, 2, 3), (0,))]),
    ],
)
def test_groups(ranks: int, folds: int, wanted: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    assert [(group.ranks, group.folds) for group in fold_groups(range(ranks), folds)] == wanted


@given(first=st.integers(0, 99), ranks=st.integers(2, 99), folds=st.integers(1, 20))
def test_all_ranks_train_and_all_folds_are_trained(first: int, ranks: int, folds: int) -> None:
    block = range(first, first + ranks)
    groups = fold_groups(block, folds)
    assert [rank for group in groups for rank in group.ranks] == list(block)
    assert [fold for group in groups for fold in group.folds] == list(range(folds))
    for parts in ([len(group.ranks) for group in groups], [len(group.folds) for group in groups]):
        assert parts == sorted(parts, reverse=True) and parts[0] - parts[-1] <= 1
    assert groups[-1].ranks[1:] and groups[-1].folds
    assert len(groups) == folds or 2 * (len(groups) + 1) > ranks


def test_mean_and_spread() -> None:
    assert scored([1.0, 2.0, 6.0]) == (3.0, math.sqrt(14 / 3))
    assert scored([0.0, 3.0]) == (1.5, 1.5)  # 0 counts
    assert scored([0.25, 0.25, 0.25]) == (0.25, 0.0)
    assert scored([0.7]) == (0.7, 0.0)


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_a_failed_fold_fails_the_trial(figure: float) -> None:
    assert all(math.isnan(value) for value in scored([0.5, figure, 0.0]))
