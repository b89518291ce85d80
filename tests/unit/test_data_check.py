"""Looking through data: a line on each file, what is wrong, on any number of ranks, without training."""

from __future__ import annotations

from functools import partial

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from nnlo import Algo, Data, H5Data, MPIManager
from nnlo.comm.virtual import VirtualWorld
from nnlo.data import check
from nnlo.data.check import Report, check_file, check_generator, same_forms
from nnlo.errors import DataError, OptionsError
from tests.jobs import Batches, Built, Rows, cut, labelled


def write(path, x, y):
    with h5py.File(path, "w") as file:
        file["features"], file["labels"] = x, y
    return str(path)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A clean file, one with NaN and inf, none, one of another form, an empty one."""
    monkeypatch.chdir(tmp_path)
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    bad = x.copy()
    bad[7, 1], bad[9], bad[3, 0] = np.nan, np.inf, -np.inf
    write("good.h5", x, np.arange(20) % 3 - 1)
    write("bad.h5", bad, np.zeros(20, int))
    write("odd.h5", x[:, :1], np.zeros(20, int))
    write("empty.h5", x[:0], np.zeros(0, int))
    return ["good.h5", "bad.h5", "gone.h5", "odd.h5", "empty.h5"]


def check_files(data, files) -> list[Report]:
    """What each file holds, laid against the first, as the ranks do it together."""
    return same_forms([check_file(data, file) for file in files])


LINES = [
    "good.h5: 20 samples; x float (2) 0 .. 39; y int64 () -1 .. 1",
    "WRONG bad.h5: 20 samples; x float (2) 0 .. 39, 1 NaN and 3 inf, the first in row 3; y int64 () 0 .. 0",
    "WRONG gone.h5: no such file",
    "WRONG odd.h5: samples of form float (1), int64 (), while good.h5 has float (2), int64 ()",
    "empty.h5: 0 samples; x float (2); y int64 ()",
]


@pytest.mark.parametrize("size", [8, 50, 8 << 20])
def test_a_line_on_each_file(files, size, monkeypatch):
    """However little is read at a time."""
    monkeypatch.setattr(check, "SLICE_BYTES", size)
    found = check_files(H5Data(4), files)
    assert [str(one) for one in found] == LINES
    assert [one.wrong for one in found] == [False, True, True, True, False]


def test_little_is_in_memory_at_a_time(files, monkeypatch):
    sizes, real = [], H5Data.read_rows
    monkeypatch.setattr(check, "SLICE_BYTES", 100)
    monkeypatch.setattr(H5Data, "read_rows", lambda self, file, a, b: sizes.append(b - a) or real(self, file, a, b))
    check_file(H5Data(4), "good.h5")
    assert max(sizes) == 100 // 16 and len(sizes) == 1 + 4


class Several(Data):
    def load_data(self, file):
        if file == "words":
            return np.array(["a"]), np.zeros(1)
        if file == "uneven":
            return np.zeros(3), np.zeros(2)
        return [np.zeros((3, 2)), np.array([True, False, True])], np.eye(3)


def test_data_of_ones_own():
    assert [str(one) for one in check_files(Several(2), ["fine", "words", "uneven"])] == [
        "fine: 3 samples; x[0] float (2) 0 .. 0; x[1] bool () 0 .. 1; y float (3) 0 .. 1",
        "WRONG words: arrays of type <U1 cannot be trained on: turn them into numbers",
        "WRONG uneven: features and labels have different lengths: 2, 3",
    ]


class Mean(nn.Module):
    """Takes any features, and gives one number a sample."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * x.flatten(1).mean(1)


def manager(comm, data, train, val=None, make=Mean, **options):
    algo = Algo("sgd", loss=options.pop("loss", "mse"), metrics=options.pop("metrics", None))
    return MPIManager(comm, data, algo, Built(make), 1, train, val, output=None, **options)


@pytest.mark.parametrize("ranks", [None, 3, 7])
def test_both_lists_are_looked_through(files, ranks, capsys):
    comm = VirtualWorld(ranks) if ranks else None
    with pytest.raises(DataError, match="--check-data: 3 of 6 files or generators are wrong") as caught:
        manager(comm, H5Data(4), files, ["good.h5"]).check_data()
    assert caught.value.agreed
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["--train-data: 60 samples", *LINES, "--val-data: 20 samples", LINES[0]]


def test_clean_data_give_their_lines(files, capsys):
    found = manager(VirtualWorld(3), H5Data(4), ["good.h5"] * 2).check_data()
    assert found == ["--train-data: 40 samples", LINES[0], LINES[0]]
    assert capsys.readouterr().out.splitlines() == found


def test_no_sample_is_wrong(files):
    with pytest.raises(DataError, match="--check-data: 1 of 1"):
        manager(None, H5Data(4), ["empty.h5"]).check_data()


def test_copies_are_looked_through_by_their_own_names(files, tmp_path):
    found = manager(VirtualWorld(3), H5Data(4, cache=tmp_path / "cached"), ["good.h5"]).check_data()
    assert found == ["--train-data: 20 samples", LINES[0]]
    assert list((tmp_path / "cached").iterdir()) == []
    with pytest.raises(DataError, match=r"^gone\.h5: cannot be copied"):
        manager(VirtualWorld(3), H5Data(4, cache=tmp_path / "cached"), ["gone.h5"]).check_data()


def test_training_may_follow(files):
    x, y = labelled(20)
    job = MPIManager(None, Rows(x, y, 5), Algo("sgd"), Built(lambda: nn.Linear(8, 4)), 1, ["all"], None, output=None)
    assert job.check_data() and job.train()["outcome"] == "done"


@pytest.fixture
def three_classes(files):
    """Files for two features and three classes; the labels of the second, and those of the third, do not suit."""
    x = np.ones((20, 2), np.float32)
    labels = {name: np.arange(20) % 3 for name in ("fine", "late", "early")}
    labels["late"][[13, 17]], labels["early"][0] = 7, -1
    return [write(f"{name}.h5", x, y) for name, y in labels.items()]


@pytest.mark.parametrize("ranks", [None, 3])
@pytest.mark.parametrize("size", [50, 8 << 20])
def test_labels_outside_the_classes_are_told_by_file_and_row(three_classes, ranks, size, monkeypatch, capsys):
    monkeypatch.setattr(check, "SLICE_BYTES", size)
    comm = VirtualWorld(ranks) if ranks else None
    make = partial(nn.Linear, 2, 3)
    with pytest.raises(DataError, match="2 of 3 files or generators are wrong"):
        manager(comm, H5Data(4), three_classes, make=make, loss="categorical_crossentropy").check_data()
    fine, late, early = capsys.readouterr().out.splitlines()[1:]
    assert fine.startswith("fine.h5: 20 samples; ") and fine.endswith("y int64 () 0 .. 2")
    assert late.startswith("WRONG ") and early.startswith("WRONG ")
    assert late.endswith("late.h5: 20 samples; x float (2) 1 .. 1; y int64 () 0 .. 7; row 13: labels hold 7, the model"
                         " has the classes 0 to 2")  # fmt: skip
    assert early.endswith("; row 0: labels hold -1, the model has the classes 0 to 2")


def test_a_metric_has_its_own_rule(files, capsys):
    write("late.h5", np.ones((5, 2), np.float32), np.array([0, 1, 1, 3, 0]))
    with pytest.raises(DataError, match="1 of 1"):
        manager(None, H5Data(4), ["late.h5"], metrics=["acc"]).check_data()
    assert "; row 3: labels (1,) of a single output are not 0 or 1, as two classes are\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("inputs", "outputs", "loss", "told"),
    [
        (3, 3, "categorical_crossentropy", r"the model cannot take input \(2, 2\) float32 "),
        (2, 3, "mse", r"model output \(2, 3\) does not fit labels \(2,\): "),
        (2, 3, "tests.unit.test_data_check:vector", r"loss '.*' with model .* gives \(2, 3\): a scalar tensor"),
    ],
)
def test_what_the_model_cannot_take_is_told_as_training_tells_it(three_classes, inputs, outputs, loss, told, capsys):
    made = manager(None, H5Data(4), three_classes[:1], make=partial(nn.Linear, inputs, outputs), loss=loss)
    with pytest.raises(DataError, match="1 of 1"):
        made.check_data()
    with pytest.raises(OptionsError, match=told) as caught:
        made.train()
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("WRONG fine.h5: ") and line.endswith(f"; {caught.value}")


def vector(output, labels):
    return output


def test_batches_of_a_generator_are_laid_against_the_model():
    x, y = labelled(30)
    y[25] = 4
    with pytest.raises(DataError, match="1 of 1"):
        manager(
            VirtualWorld(3), Batches(cut(x, y, [10, 20])), None, make=partial(nn.Linear, 8, 4), loss="CrossEntropy"
        ).check_data()


def test_a_model_that_cannot_be_built_is_told_first(files):
    with pytest.raises(OptionsError, match="must return a torch module"):
        manager(None, H5Data(4), ["good.h5"], make=lambda: 3).check_data()


class Own(Data):
    shards_itself = True

    def generate_data(self):
        x = np.full((2 + self.worker, 1), self.worker, np.float32)
        yield x, x
        yield x, x


@pytest.mark.parametrize("workers", [1, 3])
def test_generators_are_run_for_an_epoch(workers):
    lines = manager(VirtualWorld(workers + 1), Own(2), None).check_data()
    told = [
        f"generate_data() of Own, worker {w + 1}: {4 + 2 * w} samples; x float (1) {w} .. {w}; y float (1) {w} .. {w}"
        for w in range(workers)
    ]
    assert lines == [f"--train-data: {sum(4 + 2 * w for w in range(workers))} samples", *told]


def test_a_generator_that_all_take_in_turn_is_run_once():
    batches = cut(*labelled(30), [10, 20])
    lines = manager(VirtualWorld(4), Batches(batches), None).check_data()
    assert len(lines) == 2 and "Batches, worker 1: 30 samples; x float (8)" in lines[1]


def test_a_generator_of_what_is_no_batch():
    report = check_generator(Batches([(np.zeros((2, 1)), np.zeros(2)), (np.zeros((2, 3)), np.zeros(2))]))
    assert report.wrong and "form float (3), float () after such of form float (1), float ()" in str(report)
