"""Wrong use that the ranks find out: each rank raises the same error, nothing is left, and all can go on."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from mpi4py import MPI
from torch import nn

from nnlo import Algo, Data, H5Data, MPIManager
from nnlo.errors import DataError, NnloError, OptionsError, TrainingError
from tests.jobs import Batches, Built, Rows, cut, labelled

Make = Callable[[], nn.Module]


def linear(classes: int = 4, inputs: int = 8) -> Make:
    return lambda: nn.Linear(inputs, classes)


@contextmanager
def shared_folder(comm: MPI.Comm) -> Iterator[Path]:
    """One folder for all ranks, gone in the end."""
    made = tempfile.TemporaryDirectory() if comm.rank == 0 else None
    try:
        yield Path(comm.bcast(made and made.name))
        comm.Barrier()
    finally:
        if made:
            made.cleanup()


def on_rank_0(comm: MPI.Comm, work: Callable[[], Any]) -> None:
    if comm.rank == 0:
        work()
    comm.Barrier()


def write_h5(path: Path, rows: int = 60, missing: int = 0, names: tuple[str, str] = ("features", "labels")) -> None:
    """A file of `rows` features and `missing` labels fewer."""
    x, y = labelled(rows)
    with h5py.File(path, "w") as file:
        file[names[0]], file[names[1]] = x, y[: rows - missing]


def refused(comm: MPI.Comm, kind: type[NnloError], make: Callable[[], MPIManager]) -> str:
    """What the error says that making and training a manager raises on every rank alike."""
    caught: NnloError | None = None
    try:
        make().train()
    except NnloError as error:
        caught = error
    told = comm.allgather((type(caught), str(caught)))
    assert set(told) == {(kind, str(caught))}, told
    assert "\n" not in str(caught), told
    return str(caught)


def manager(
    comm: MPI.Comm, data: Data, files: Any = (), *, model: Make | None = None, algo: Algo | None = None, **options: Any
) -> MPIManager:
    epochs, val = options.pop("epochs", 1), options.pop("val", None)
    options = {"output": None, **options}
    builder = Built(model or linear())
    return MPIManager(comm, data, algo or Algo("sgd", lr=0.1), builder, epochs, files, val, **options)


def body_a_file_that_cannot_be_copied(comm: MPI.Comm) -> None:
    with shared_folder(comm) as folder:
        on_rank_0(comm, lambda: write_h5(folder / "good.h5"))
        files = [str(folder / name) for name in ("good.h5", "gone.h5")]
        for command in (None, "cp {} {}"):
            data = H5Data(10, cache=folder / "cached", copy_command=command)
            said = refused(comm, DataError, lambda data=data: manager(comm, data, files))  # type: ignore[misc]
            assert said.startswith(f"{files[1]}: ") and "No such file" in said
            comm.Barrier()
            assert not list((folder / "cached").iterdir())


def body_every_bad_file_is_named(comm: MPI.Comm) -> None:
    with shared_folder(comm) as folder:

        def spoil() -> None:
            write_h5(folder / "good.h5")
            write_h5(folder / "cut.h5", rows=5000)
            whole = (folder / "cut.h5").read_bytes()
            (folder / "cut.h5").write_bytes(whole[: len(whole) // 2])
            (folder / "text.h5").write_text("not HDF5 at all\n" * 100)
            (folder / "empty.h5").touch()
            (folder / "folder.h5").mkdir()
            names = ("good", "gone", "cut", "text", "empty", "folder")
            (folder / "train.list").write_text("".join(f"{name}.h5\n" for name in names))

        on_rank_0(comm, spoil)
        said = refused(comm, DataError, lambda: manager(comm, H5Data(10), folder / "train.list"))
        assert "good.h5" not in said
        for part in (
            "gone.h5: no such file",
            "cut.h5: cannot be read: truncated",
            "text.h5: cannot be read: not an HDF5 file",
        ):
            assert part in said, said
        assert "empty.h5: " in said and "folder.h5: " in said, said


def body_a_long_list_of_bad_files_is_cut_short(comm: MPI.Comm) -> None:
    said = refused(comm, DataError, lambda: manager(comm, H5Data(10), [f"gone_{i}.h5" for i in range(25)]))
    assert said.count("no such file") == 10 and "and 15 more files" in said, said


def body_validation_files_are_looked_at_before_training(comm: MPI.Comm) -> None:
    with shared_folder(comm) as folder:
        on_rank_0(comm, lambda: write_h5(folder / "good.h5"))
        files = [str(folder / "good.h5")]
        said = refused(comm, DataError, lambda: manager(comm, H5Data(10), files, val=["gone.h5"]))
        assert "gone.h5: no such file" in said, said


def body_a_list_that_is_not_there_or_empty(comm: MPI.Comm) -> None:
    with shared_folder(comm) as folder:
        on_rank_0(comm, lambda: (folder / "empty.list").write_text("\n# nothing\n"))
        said = refused(comm, DataError, lambda: manager(comm, H5Data(10), folder / "gone.list"))
        assert f"--train-data {folder}/gone.list" in said, said
        said = refused(comm, DataError, lambda: manager(comm, H5Data(10), folder / "empty.list"))
        assert f"--train-data {folder}/empty.list: the list is empty" in said, said
        said = refused(comm, DataError, lambda: manager(comm, H5Data(10), ["x.h5"], val=folder / "gone.list"))
        assert f"--val-data {folder}/gone.list" in said, said


def body_no_training_files_at_all(comm: MPI.Comm) -> None:
    assert "--train-data" in refused(comm, DataError, lambda: manager(comm, H5Data(10), None))


def body_a_dataset_name_that_the_file_has_not(comm: MPI.Comm) -> None:
    with shared_folder(comm) as folder:
        on_rank_0(comm, lambda: write_h5(folder / "a.h5", names=("pictures", "classes")))
        files = [str(folder / "a.h5")]
        said = refused(comm, DataError, lambda: manager(comm, H5Data(10), files))
        assert "a.h5" in said and "'features'" in said and "classes, pictures" in said, said
        said = refused(comm, DataError, lambda: manager(comm, H5Data(10, "pictures", "digits"), files))
        assert "'digits'" in said and "classes, pictures" in said, said


def body_features_and_labels_of_different_lengths(comm: MPI.Comm) -> None:
    with shared_folder(comm) as folder:
        on_rank_0(comm, lambda: write_h5(folder / "a.h5", missing=10))
        said = refused(comm, DataError, lambda: manager(comm, H5Data(10), [str(folder / "a.h5")]))
        assert "a.h5" in said and "50" in said and "60" in said, said
    x, y = labelled(30)
    said = refused(comm, DataError, lambda: manager(comm, Rows(x, y[:20], 10), ["all"]))
    assert "20, 30" in said, said


def body_fewer_samples_than_workers(comm: MPI.Comm) -> None:
    data = Rows(*labelled(comm.size - 2), 10)
    said = refused(comm, DataError, lambda: manager(comm, data, ["all"]))
    assert f"{comm.size - 2} samples" in said and f"{comm.size - 1} workers" in said, said


def body_a_generator_that_yields_nothing(comm: MPI.Comm) -> None:
    class Nothing(Data):
        def generate_data(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            yield from ()

    assert "Nothing" in refused(comm, DataError, lambda: manager(comm, Nothing(10)))


def body_a_worker_without_a_file(comm: MPI.Comm) -> None:
    class OwnFiles(Rows):
        def generate_data(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for _ in self.file_names:
                yield self.x, self.y

    said = refused(comm, DataError, lambda: manager(comm, OwnFiles(*labelled(10), 10), ["only one"]))
    assert "at least one file a worker" in said, said


def body_output_that_does_not_fit_the_labels(comm: MPI.Comm) -> None:
    x, y = labelled(40, classes=7)
    data = Rows(x, np.eye(7, dtype=np.float32)[y], 10)
    said = refused(comm, OptionsError, lambda: manager(comm, data, ["all"], model=linear(10)))
    assert "(2, 10)" in said and "(2, 7)" in said, said


def body_input_that_the_model_cannot_take(comm: MPI.Comm) -> None:
    data = Rows(*labelled(40), 10)
    said = refused(comm, OptionsError, lambda: manager(comm, data, ["all"], model=linear(4, inputs=9)))
    assert "(2, 8)" in said, said


def body_what_is_no_model(comm: MPI.Comm) -> None:
    data = Rows(*labelled(40), 10)
    said = refused(comm, OptionsError, lambda: manager(comm, data, ["all"], model=lambda: 3))  # type: ignore[return-value,arg-type]
    assert "torch module" in said and "int" in said, said


def body_models_that_differ_between_ranks(comm: MPI.Comm) -> None:
    x, y = labelled(40)
    inner = 5 if comm.rank == 2 else 4
    model = lambda: nn.Sequential(nn.Linear(8, inner), nn.Linear(inner, 4))  # noqa: E731
    said = refused(comm, OptionsError, lambda: manager(comm, Rows(x, y, 10), ["all"], model=model))
    assert "rank 2" in said and "rank 0" in said, said


def body_names_that_exist(comm: MPI.Comm) -> None:
    data = Rows(*labelled(40), 10)
    with shared_folder(comm) as folder:
        on_rank_0(comm, lambda: (folder / "Built_mine_history.json").write_text("precious"))
        make = lambda **more: manager(comm, data, ["all"], output=folder, trial_name="mine", **more)  # noqa: E731
        said = refused(comm, OptionsError, make)
        assert "Built_mine_history.json" in said and "--overwrite" in said, said
        assert [path.name for path in folder.iterdir()] == ["Built_mine_history.json"]
        assert (folder / "Built_mine_history.json").read_text() == "precious"
        comm.Barrier()
        make(overwrite=True).train()
        comm.Barrier()
        assert (folder / "Built_mine_history.json").read_text().startswith("{")


def body_output_that_cannot_be_written(comm: MPI.Comm) -> None:
    data = Rows(*labelled(40), 10)
    with shared_folder(comm) as folder:
        on_rank_0(comm, lambda: (folder / "file").touch())
        said = refused(comm, OptionsError, lambda: manager(comm, data, ["all"], output=folder / "file" / "runs"))
        assert f"--output {folder}/file/runs" in said, said


def body_an_error_of_one_rank_is_raised_by_all(comm: MPI.Comm) -> None:
    """A file that one host alone cannot read."""

    class OnOneHost(Rows):
        def load_data(self, file: str) -> tuple[Any, Any]:
            if comm.rank == 1:
                raise DataError(f"{file}: not on this host")
            return super().load_data(file)

    said = refused(comm, DataError, lambda: manager(comm, OnOneHost(*labelled(40), 10), ["0:20", "20:40"]))
    assert "not on this host" in said, said


def body_numbers_out_of_range(comm: MPI.Comm) -> None:
    data = Rows(*labelled(40), 10)
    for epochs in (0, -1, 1.5, "2"):
        said = refused(comm, OptionsError, lambda epochs=epochs: manager(comm, data, ["all"], epochs=epochs))  # type: ignore[misc]
        assert "--epochs" in said, said
    for batch in (0, -1, 2.0):
        assert "--batch" in refused(comm, OptionsError, lambda batch=batch: manager(comm, Rows(data.x, data.y, batch)))  # type: ignore[misc]
    said = refused(comm, OptionsError, lambda: manager(comm, data, ["all"], algo=Algo("sgd", sync_every=0)))
    assert "--sync-every" in said, said


def body_one_non_finite_gradient_is_refused_and_counted(comm: MPI.Comm) -> None:
    x, y = labelled(120)
    x[33] = math.inf
    job = manager(comm, Batches(cut(x, y, [10] * 12)), epochs=2)
    history = job.train()
    if history is not None and job.model is not None:
        assert sum(entry["refused"] for entry in history["epochs"]) == 2, history
        assert sum(entry["updates"] for entry in history["epochs"]) == 22, history
        assert history["outcome"] == "done"
        assert all(math.isfinite(entry["loss"]) for entry in history["epochs"])
        assert all(bool(value.isfinite().all()) for value in job.model.state_dict().values())


def body_a_non_finite_part_does_not_stop_a_synchronous_step(comm: MPI.Comm) -> None:
    x, y = labelled(120)
    x[33] = math.nan
    job = manager(comm, Batches(cut(x, y, [10] * 12)), algo=Algo("sgd", lr=0.1, synchronous=True))
    history = job.train()
    if history is not None:
        assert history["epochs"][0]["refused"] == 1 and history["epochs"][0]["updates"] == 12 // (comm.size - 1), (
            history
        )


def body_ten_non_finite_gradients_in_a_row_end_it(comm: MPI.Comm) -> None:
    x, y = labelled(400)
    x[50:] = math.nan
    with shared_folder(comm) as folder:
        data = Batches(cut(x, y, [10] * 40))
        said = refused(comm, TrainingError, lambda: manager(comm, data, output=folder, trial_name="nan", epochs=3))
        assert "10 updates in a row" in said and "--lr" in said, said
        assert TrainingError.exit_code == 1
        text = (folder / "Built_nan_history.json").read_text()
        assert "failed: 10 updates in a row" in text


def body_all_can_train_after_all_that(comm: MPI.Comm) -> None:
    assert (manager(comm, Rows(*labelled(40), 10), ["all"]).train() is None) == (comm.rank > 0)


def body_hogwild_without_shared_memory(comm: MPI.Comm) -> None:
    algo, data = Algo("sgd", lr=0.1, hogwild=True), Rows(*labelled(40), 4)
    said = refused(
        comm, OptionsError, lambda: MPIManager(comm, data, algo, Built(linear()), 1, ["all"], None, transport="mpi")
    )
    assert said.startswith("--hogwild needs all ranks on one host, in shared memory: ")
