"""Data of a user's own, trained through a manager at one, two and three workers."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import nnlo
from nnlo.comm.costs import Fault, FaultKind
from nnlo.comm.virtual import VirtualWorld
from nnlo.data.base import part, rows
from nnlo.errors import DataError, OptionsError, TrainingError
from tests.jobs import Built

EPOCHS = 2
WORKERS = pytest.mark.parametrize("workers", [1, 2, 3])
SYNCHRONOUS = pytest.mark.parametrize("synchronous", [False, True])


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Seen(nn.Module):
    """A linear model that notes the first feature, a sample's number, of all it is trained on."""

    def __init__(self, log, inputs):
        super().__init__()
        self.log, self.inputs, self.linear = log, inputs, nn.Linear(1, 1)

    def forward(self, *x):
        assert len(x) == self.inputs and all(one.dtype == torch.float32 for one in x)
        if self.training:
            self.log.append(x[0][:, 0].round().int().tolist())
        output = self.linear(x[0] * 1e-3)
        return output if self.inputs == 1 else [output, output]


class Builder(nnlo.ModelBuilder):
    def __init__(self, inputs=1):
        super().__init__()
        self.logs, self.inputs = [], inputs

    def build_model(self):
        self.logs.append([])
        return Seen(self.logs[-1], self.inputs)


class Many(nn.MSELoss):
    """The mean squared error of each output, added up."""

    def forward(self, outputs, y):
        return sum(super(Many, self).forward(*pair) for pair in zip(outputs, y, strict=True))


def numbered(numbers, inputs=1):
    column = np.asarray(numbers, float)[:, None]
    return (column, column * 1e-3) if inputs == 1 else ([column, -column], [column * 1e-3, column])


def trained(data, workers, files=None, val=None, *, inputs=1, val_data=None, synchronous=False, faults=(), **options):
    """The history, and the samples that each worker was given, batch by batch."""
    builder = Builder(inputs)
    loss = "mse" if inputs == 1 else f"{__name__}:Many"
    algo = nnlo.Algo("sgd", lr=0.01, loss=loss, metrics=(), synchronous=synchronous, **options)
    world = VirtualWorld(workers + 1, faults=faults)
    manager = nnlo.MPIManager(world, data, algo, builder, EPOCHS, files, val, output=None, val_data=val_data)
    history = manager.train()
    assert history["outcome"] == "done"
    return history, builder.logs[1:]


def flat(logs):
    return [sample for log in logs for batch in log for sample in batch]


class Loads(nnlo.Data):
    """A file is named by its range of numbers."""

    def load_data(self, file):
        return numbered(range(*map(int, file.split(":"))))


FILES = ["0:7", "7:7", "7:20", "20:21", "21:40"]


@WORKERS
@SYNCHRONOUS
def test_load_data_of_ones_own(workers, synchronous):
    history, logs = trained(Loads(4), workers, FILES, ["0:5", "5:9"], synchronous=synchronous)
    assert history["train_samples"] == 40 and history["val_samples"] == 9
    assert sorted(flat(logs)) == sorted(list(range(40)) * EPOCHS)
    assert [entry["samples"] for entry in history["epochs"]][-1] == 80
    assert all(entry["val_loss"] > 0 for entry in history["epochs"])
    assert flat(logs) != sorted(flat(logs))
    assert all(logs)


class ReadsFiles(Loads):
    """Each file of this rank's, in batches of 4, the last one short."""

    def generate_data(self):
        for file in self.file_names:
            x, y = self.load_data(file)
            for start in range(0, rows(y), 4):
                yield part(x, start, start + 4), part(y, start, start + 4)


@WORKERS
@SYNCHRONOUS
def test_a_generator_over_the_files_of_its_rank(workers, synchronous):
    history, logs = trained(ReadsFiles(4), workers, FILES, synchronous=synchronous)
    assert history["train_samples"] == 40
    for worker, log in enumerate(logs):
        own = [sample for file in FILES[worker::workers] for sample in range(*map(int, file.split(":")))]
        assert flat([log]) == own * EPOCHS


@WORKERS
def test_a_generator_validates_on_the_validation_files(workers):
    history, logs = trained(ReadsFiles(4), workers, FILES, ["100:107"])
    assert len(history["validations"]) >= EPOCHS
    assert not set(flat(logs)) & set(range(100, 107))


class NoFiles(nnlo.Data):
    """`count` batches of three samples; batch k holds 3k, 3k + 1, 3k + 2."""

    def __init__(self, count):
        super().__init__(3)
        self.count = count

    def generate_data(self):
        for k in range(self.count):
            yield numbered(range(3 * k, 3 * k + 3))


@WORKERS
@SYNCHRONOUS
@pytest.mark.parametrize("count", [1, 2, 7, 9])
def test_a_generator_without_files_is_taken_in_turn(workers, synchronous, count):
    history, logs = trained(NoFiles(count), workers, synchronous=synchronous)
    assert history["train_samples"] == 3 * count
    for worker, log in enumerate(logs):
        assert log == [[3 * k, 3 * k + 1, 3 * k + 2] for k in range(worker, count, workers)] * EPOCHS
    assert sum(entry["updates"] for entry in history["epochs"]) > 0


class ShardsItself(nnlo.Data):
    """Worker w yields `lengths[w]` batches, whose samples tell whose they are."""

    shards_itself = True

    def __init__(self, lengths):
        super().__init__(2)
        self.lengths = lengths

    def generate_data(self):
        for k in range(self.lengths[self.worker]):
            yield numbered([1000 * self.num_workers + 100 * self.worker + k] * 2)


@WORKERS
@SYNCHRONOUS
@pytest.mark.parametrize("tau", [1, 3])
@pytest.mark.parametrize("lengths", [(4, 4, 4), (7, 1, 3), (5, 0, 2), (1, 8, 0)])
def test_a_generator_that_shards_itself(workers, synchronous, lengths, tau):
    lengths = lengths[:workers]
    history, logs = trained(ShardsItself(lengths), workers, synchronous=synchronous, sync_every=tau)
    assert history["train_samples"] == 2 * sum(lengths)
    assert history["epochs"][-1]["samples"] == 2 * sum(lengths) * EPOCHS
    for worker, log in enumerate(logs):
        assert log == [[1000 * workers + 100 * worker + k] * 2 for k in range(lengths[worker])] * EPOCHS


@WORKERS
def test_several_inputs_and_outputs(workers):
    class Pairs(nnlo.Data):
        def load_data(self, file):
            return numbered(range(*map(int, file.split(":"))), inputs=2)

    class PairsMade(Pairs):
        def generate_data(self):
            for file in self.file_names:
                yield self.load_data(file)

    for data in (Pairs(4), PairsMade(4)):
        _, logs = trained(data, workers, ["0:9", "9:20", "20:33"], ["0:3"], inputs=2)
        assert sorted(flat(logs)) == sorted(list(range(33)) * EPOCHS)


@WORKERS
def test_groups_as_several_inputs(workers, tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        x, y = numbered(range(20), inputs=2)
        file["in/a"], file["in/b"], file["out/a"], file["out/b"] = *x, *y
    _, logs = trained(nnlo.H5Data(3, "in", "out"), workers, [str(tmp_path / "x.h5")], inputs=2)
    assert sorted(flat(logs)) == sorted(list(range(20)) * EPOCHS)


class Validation(nnlo.Data):
    """Counts how often it was run, and by whom."""

    runs: tuple = ()

    def generate_data(self):
        type(self).runs += ((self.worker, self.num_workers),)
        yield numbered([1, 2])
        yield numbered([3])


def test_validation_data_of_another_kind():
    Validation.runs = ()
    history, _ = trained(Loads(4), 2, FILES, val_data=Validation(9))
    assert all(entry["val_loss"] > 0 for entry in history["epochs"])
    assert len(Validation.runs) == 1 + EPOCHS and set(Validation.runs) == {(0, 1)}
    plain, _ = trained(NoFiles(3), 2, None, ["0:5"], val_data=Loads(2))
    assert plain["val_samples"] == 5 and "val_loss" in plain["epochs"][0]


def test_a_generator_is_not_validated_on_its_training_data():
    history, _ = trained(NoFiles(3), 2)
    assert history["validations"] == [] and "val_loss" not in history["epochs"][0]


def test_counting_oneself():
    class Counted(NoFiles):
        def count_data(self):
            return np.int64(3 * self.count)

    assert trained(Counted(4), 2)[0]["train_samples"] == 12


class Empty(nnlo.Data):
    def generate_data(self):
        yield numbered([])


class Nothing(nnlo.Data):
    shards_itself = True

    def generate_data(self):
        return iter(())


class Neither(nnlo.Data):
    pass


@pytest.mark.parametrize(
    ("data", "options", "error", "said"),
    [
        (Loads(4), {}, DataError, "--train-data: no files: name a list of files, or override generate_data"),
        (Loads(4), {"files": ["3:3", "4:4"]}, DataError, "--train-data: the files hold no sample: list others"),
        (Loads(4), {"files": ["0:1", "1:2"]}, DataError, "the files hold 2 samples, fewer than the 3 workers"),
        (Loads(4), {"files": FILES, "val": ["3:3"]}, DataError, "--val-data: the files hold no sample"),
        (Loads(4), {"files": FILES, "val_data": Empty(1)}, DataError, "Empty yields no sample to validate on"),
        (ReadsFiles(4), {"files": FILES[:2]}, DataError, "worker 3 of 3 has no file: list at least one file a worker"),
        (Empty(1), {}, DataError, r"generate_data\(\) of Empty yields no sample: it must yield"),
        (Nothing(1), {}, DataError, "of Nothing yields no sample"),
        (Neither(1), {"files": FILES}, OptionsError, "Neither overrides neither load_data nor generate_data"),
    ],
)
def test_data_that_cannot_be_trained_on(data, options, error, said):
    with pytest.raises(error, match=said) as caught:
        trained(data, 3, **options)
    assert caught.value.agreed and "\n" not in str(caught.value)


def test_all_bad_files_are_named(tmp_path):
    good, odd, text = (str(tmp_path / name) for name in ("good.h5", "odd.h5", "text.h5"))
    for path, width in ((good, 1), (odd, 2)):
        with h5py.File(path, "w") as file:
            file["features"], file["labels"] = np.zeros((9, width)), np.zeros((9, 1))
    (tmp_path / "text.h5").write_text("no data")
    with pytest.raises(DataError) as caught:
        trained(nnlo.H5Data(2), 2, [good, text, "nowhere.h5", odd])
    faults = f"{text}: cannot be read: not an HDF5 file; nowhere.h5: no such file"
    assert str(caught.value) == f"{faults}: correct the list (--train-data) or the files"
    with pytest.raises(DataError) as caught:
        trained(nnlo.H5Data(2), 2, [good, odd])
    odd_form = f"{odd}: samples of form float (2), float (1), while {good} has float (1), float (1)"
    assert str(caught.value).startswith(f"{odd_form}: ")
    with pytest.raises(DataError, match=r"file 9: gone; and 3 more files: correct the list"):
        trained(Gone(2), 2, [f"file {i}" for i in range(13)])


def test_a_wrong_dataset_name_is_told_once(tmp_path):
    paths = [str(tmp_path / f"i{i}.h5") for i in range(4)]
    for path in paths:
        with h5py.File(path, "w") as file:
            file["pictures"], file["cls"] = np.zeros((9, 1)), np.zeros((9, 1))
    start, end = f"no dataset 'picturs' in {paths[0]}", "correct --features-name, or the list (--train-data)"
    assert told(nnlo.H5Data(2, "picturs", "cls"), paths) == f"{start} and 3 more files: they have cls, pictures: {end}"
    assert told(nnlo.H5Data(2, "picturs", "cls"), paths[:1]) == f"{start}: it has cls, pictures: {end}"
    assert "correct --labels-name, or" in told(nnlo.H5Data(2, "pictures", "class"), paths)
    with h5py.File(paths[1], "a") as file:
        file["more"] = 0
    assert ": the first has cls, pictures: " in told(nnlo.H5Data(2, "picturs", "cls"), paths)
    assert told(nnlo.H5Data(2, "more/x", "cls"), [*paths, "gone.h5"]).endswith("or the files")


class Square(nnlo.Data):
    """A file is named by the samples, which are of its number of features."""

    def load_data(self, file):
        return np.zeros((9, int(file)), "f4"), np.zeros((9, 1), "f4")


class Other(Square):
    pass


class Mean(nn.Module):
    """Takes samples of any width."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x.mean(1, keepdim=True) * self.scale


def test_validation_samples_are_like_those_trained_on():
    def run(*val_data, width="3"):
        algo = nnlo.Algo("sgd", lr=0.01, loss="mse", metrics=())
        builder = Built(Mean)
        given = {"val_data": val_data[0]} if val_data else {}
        return nnlo.MPIManager(
            VirtualWorld(2), Square(3), algo, builder, 1, ["2"], [width], output=None, **given
        ).train()

    said = (
        "--val-data: samples of form float (3), float (1), while those of --train-data have float (2), float (1): list"
    )
    for val_data in ((), (Square(3),)):
        with pytest.raises(DataError) as caught:
            run(*val_data)
        assert str(caught.value).startswith(said) and caught.value.agreed
    assert run(width="2")["outcome"] == "done"
    assert run(Other(3))["outcome"] == "done"


def told(data, files):
    with pytest.raises(DataError) as caught:
        trained(data, 2, files)
    return str(caught.value)


def test_an_empty_file_has_no_form(tmp_path):
    paths = [str(tmp_path / name) for name in ("empty.h5", "full.h5")]
    for path, shape in zip(paths, ((0,), (9, 1)), strict=True):
        with h5py.File(path, "w") as file:
            file["features"], file["labels"] = np.zeros(shape), np.zeros(shape)
    assert trained(nnlo.H5Data(2), 2, paths)[0]["train_samples"] == 9


def test_files_that_are_loaded_whole_are_not_loaded_for_each_batch(monkeypatch):
    class Counting(Loads):
        loads = 0

        def load_data(self, file):
            Counting.loads += 1
            return super().load_data(file)

    monkeypatch.setattr("nnlo.roles.intake.BUFFER_BYTES", 64)
    trained(Counting(2), 1, ["0:40"], ["50:90"])
    assert Counting.loads <= 8


class Gone(nnlo.Data):
    def load_data(self, file):
        raise OSError(2, "gone", file)


def test_files_of_floats_of_different_widths():
    class Mixed(nnlo.Data):
        def load_data(self, file):
            return tuple(a.astype(file) for a in numbered(range(8)))

    assert len(flat(trained(Mixed(3), 2, ["f4", "f8", "f2"])[1])) == 24 * EPOCHS


@SYNCHRONOUS
def test_survivors_train_what_a_lost_worker_left(synchronous):
    faults = [Fault(2, 3, FaultKind.DIE)]
    _, logs = trained(Loads(2), 3, FILES, synchronous=synchronous, faults=faults)
    lost = logs[1][-1:]
    assert len(logs[1]) == 4
    assert sorted([*flat(logs)]) == sorted([*range(40)] * EPOCHS + lost[0])


@SYNCHRONOUS
def test_a_job_without_workers_fails(synchronous):
    faults = [Fault(worker, worker, FaultKind.DIE) for worker in (1, 2)]
    for data, files in ((Loads(2), FILES), (ShardsItself((5, 5)), None)):
        with pytest.raises(TrainingError, match="every worker is lost"):
            trained(data, 2, files, synchronous=synchronous, faults=faults)


def test_the_same_seed_gives_the_same_samples():
    assert trained(Loads(4), 2, FILES)[1] == trained(Loads(4), 2, FILES)[1]
