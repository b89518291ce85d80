"""HDF5 files: names, groups, adaptors, faults, handles."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from nnlo.data.base import rows
from nnlo.data.h5 import OPEN_FILES, H5Data
from nnlo.data.h5_files import LISTED_NAMES
from nnlo.errors import DataError, OptionsError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "one.h5"
    with h5py.File(path, "w") as handle:
        handle["features"] = np.arange(24, dtype=np.float32).reshape(6, 2, 2)
        handle["labels"] = np.arange(6)
        handle["both/zebra"] = np.arange(6) * 10.0
        handle["both/apple"] = np.arange(12).reshape(6, 2)
        handle["short"] = np.arange(5)
        handle["scalar"] = 3
        handle["words"] = ["a", "b", "c", "d", "e", "f"]
    return str(path)


def pieces(folder, count, samples=3):
    paths = [str(folder / f"{i}.h5") for i in range(count)]
    for i, path in enumerate(paths):
        with h5py.File(path, "w") as handle:
            handle["features"] = np.full((samples, 2), i, np.float32)
            handle["labels"] = np.full(samples, i)
    return paths


def complaint(data, file):
    """What counting and reading say, which must be the same one line."""
    with pytest.raises(DataError) as counted:
        data.count_file(file)
    with pytest.raises(DataError) as caught:
        data.read_rows(file, 0, 2)
    assert "\n" not in str(caught.value)
    assert str(counted.value).startswith(f"{file}: ")
    return str(counted.value).removeprefix(f"{file}: ")


def test_datasets_by_name(file):
    x, y = H5Data(2).read_rows(file, 1, 4)
    assert x.dtype == np.float32 and x[:, 0, 0].tolist() == [4, 8, 12]
    assert y.tolist() == [1, 2, 3]
    x, y = H5Data(2, "both/apple", "both/zebra").load_data(file)
    assert x.shape == (6, 2) and y.tolist() == [0, 10, 20, 30, 40, 50]
    assert H5Data(2).inspect_file(file) == (6, "float (2, 2), int64 ()")


def test_a_group_is_a_list_by_key(file):
    data = H5Data(2, "both", "labels")
    x, y = data.read_rows(file, 2, 4)
    assert [a.tolist() for a in x] == [[[4, 5], [6, 7]], [20.0, 30.0]]
    assert y.tolist() == [2, 3] and data.count_file(file) == 6


def test_adaptors(file):
    data = H5Data(2, ("both", lambda arrays: arrays[0] + 1), ("labels", lambda y: np.eye(6)[y]))
    assert data.features_name == "both" and data.labels_name == "labels"
    x, y = data.read_rows(file, 0, 2)
    assert x.tolist() == [[1, 2], [3, 4]] and y.tolist() == np.eye(6)[:2].tolist()
    into = np.zeros((2, 2)), np.zeros((2, 6))
    data.fill_rows(file, 0, 2, *into)
    assert into[0].tolist() == x.tolist() and into[1].tolist() == y.tolist()
    words = H5Data(2, ("words", lambda a: np.array([ord(one) for one in a])))
    assert words.count_file(file) == 6 and words.read_rows(file, 1, 3)[0].tolist() == [98, 99]


def test_an_adaptor_that_drops_samples(file):
    with pytest.raises(DataError, match=r"one\.h5: features and labels have different lengths: 3, 4"):
        H5Data(2, ("features", lambda x: x[1:])).read_rows(file, 0, 4)


def test_what_an_adaptor_raises_is_its_own(file):
    def broken(arrays):
        raise FileNotFoundError("lookup.npy")

    data = H5Data(2, ("features", broken))
    with pytest.raises(FileNotFoundError):
        data.read_rows(file, 0, 4)
    with pytest.raises(FileNotFoundError):
        data.fill_rows(file, 0, 2, np.zeros((2, 2, 2)), np.zeros(2))


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", ">f8", "u1", ">u2", "<i8", ">i4", "?", "f2"])
def test_rows_straight_into_memory(tmp_path, dtype):
    path, values = str(tmp_path / "x.h5"), (np.arange(40).reshape(10, 4) % 2).astype(dtype)
    with h5py.File(path, "w") as handle:
        handle.create_dataset("features", data=values, chunks=(3, 4), compression="gzip")
        handle["labels"] = np.arange(10)
    target, labels = np.full((3, 4), 9, values.dtype.newbyteorder("=")), np.zeros(3, np.int64)
    H5Data(1).fill_rows(path, 4, 7, target, labels)
    assert target.tolist() == values[4:7].tolist() and labels.tolist() == [4, 5, 6]


def test_doubles_are_rounded_as_numpy_rounds(tmp_path):
    values = np.concatenate(
        [np.random.default_rng(0).normal(size=1000), [1e300, -1e300, 1e-310, 1e-40, np.nan, np.inf]]
    )
    path, target = str(tmp_path / "x.h5"), np.empty(len(values), np.float32)
    with h5py.File(path, "w") as handle:
        handle["features"], handle["labels"] = values, values
    H5Data(1).fill_rows(path, 0, len(values), target, np.empty(len(values)))
    with np.errstate(over="ignore", under="ignore"):
        assert target.tobytes() == values.astype(np.float32).tobytes()


def test_other_shapes_than_the_memory(file):
    with pytest.raises(DataError, match=r"one\.h5: samples of form float \(2, 2\), where other files have float \(3\)"):
        H5Data(1).fill_rows(file, 0, 2, np.empty((2, 3)), np.empty(2))
    with pytest.raises(DataError, match=r"where other files have float \(2, 2\), float \(2, 2\)"):
        H5Data(1).fill_rows(file, 0, 2, [np.empty((2, 2, 2))] * 2, np.empty(2))


def test_missing_dataset_lists_those_there(file):
    assert complaint(H5Data(1, "feature"), file) == (
        "has no dataset 'feature': it has both, both/apple, both/zebra, features, labels, scalar, short, words"
        " (--features-name)"
    )
    assert complaint(H5Data(1, ""), file).startswith("has no dataset ''")
    assert complaint(H5Data(1, "features/x"), file).startswith("has no dataset 'features/x'")


def test_no_list_without_end(tmp_path):
    path = str(tmp_path / "many.h5")
    with h5py.File(path, "w") as handle:
        for i in range(LISTED_NAMES + 5):
            handle[f"d{i:02}"] = [1]
    assert complaint(H5Data(1), path).endswith(f"d{LISTED_NAMES - 1} and 5 more (--features-name)")
    path = str(tmp_path / "none.h5")
    with h5py.File(path, "w"):
        pass
    assert complaint(H5Data(1), path) == "has no dataset 'features': it has none (--features-name)"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scalar", "is not a dataset of samples"),
        ("/", "is not a dataset of samples"),
        ("words", "does not hold numbers"),
    ],
)
def test_what_is_no_dataset_of_samples(file, name, said):
    assert said in complaint(H5Data(1, name), file)


def test_different_lengths_are_named(file):
    with pytest.raises(DataError, match="different lengths: 'features' has 6, 'short' has 5"):
        H5Data(1, "features", "short").count_file(file)
    with pytest.raises(DataError, match="different lengths: 5, 6"):
        H5Data(1, "features", "short").read_rows(file, 0, None)


def test_files_that_are_none(tmp_path, file):
    content = (tmp_path / "one.h5").read_bytes()
    bad = tmp_path / "bad.h5"
    assert complaint(H5Data(1), str(bad)) == "no such file"
    assert complaint(H5Data(1), str(tmp_path)) == "is a folder"
    bad.write_bytes(content[:-100])
    assert complaint(H5Data(1), str(bad)) == "cannot be read: truncated"
    for nothing in (b"", b"not HDF5 at all, but longer than a signature", content[:7]):
        bad.write_bytes(nothing)
        assert complaint(H5Data(1), str(bad)) == "cannot be read: not an HDF5 file"


def test_damaged_files_are_never_a_traceback(tmp_path, file):
    content, random, faults = (tmp_path / "one.h5").read_bytes(), np.random.default_rng(1), 0
    for i in range(300):
        damaged = bytearray(content)
        for place in random.integers(len(content), size=20):
            damaged[place] = random.integers(256)
        path = tmp_path / f"{i}.h5"
        path.write_bytes(damaged)
        try:
            H5Data(1, "both").read_rows(str(path), 0, 2)
        except DataError as error:
            assert "\n" not in str(error)
            faults += 1
    assert faults > 100


def test_damaged_samples(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as handle:
        made = handle.create_dataset("features", data=np.random.default_rng(0).normal(size=(9, 9)), compression="gzip")
        handle["labels"] = np.arange(9)
        place = made.id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place : place + 40] = b"\xff" * 40
    path.write_bytes(content)
    assert H5Data(1).count_file(str(path)) == 9
    with pytest.raises(DataError, match=r"x\.h5: cannot be read: "):
        H5Data(1).read_rows(str(path), 0, 2)
    with pytest.raises(DataError, match=r"x\.h5: cannot be read: "):
        H5Data(1).fill_rows(str(path), 0, 2, np.empty((2, 9)), np.empty(2))


def open_descriptors(folder):
    links = [os.path.join("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd")]
    return [link for link in links if os.path.exists(link) and os.readlink(link).startswith(str(folder))]


def test_few_files_are_open_at_a_time(tmp_path):
    paths, data = pieces(tmp_path, 3 * OPEN_FILES), H5Data(1)
    for _ in range(2):
        for i, path in enumerate(paths):
            assert data.read_rows(path, 0, 1)[1].tolist() == [i]
            assert len(open_descriptors(tmp_path)) <= OPEN_FILES
    assert len(open_descriptors(tmp_path)) == OPEN_FILES


def test_twins_close_their_own_files_only(tmp_path):
    paths, data = pieces(tmp_path, OPEN_FILES + 1), H5Data(1)
    twin = copy.copy(data)
    for one in (data, twin):
        one.read_rows(paths[0], 0, 1)
    for path in paths[1:]:
        twin.read_rows(path, 0, 1)
    assert data.read_rows(paths[0], 1, 2)[1].tolist() == [0]
    assert [handle.id.valid for handle in data._open.values()] == [1]


def test_opened_again_after_a_fork(tmp_path):
    path, data = pieces(tmp_path, 1)[0], H5Data(1)
    data.read_rows(path, 0, 1)
    before = data._open[path]
    child = os.fork()
    if child == 0:
        data.read_rows(path, 0, 1)
        os._exit(0 if data._open[path] is not before and len(data._open) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    data.read_rows(path, 0, 1)
    assert data._open[path] is before


WRITER = """
import sys, h5py
file = h5py.File(sys.argv[1], "a")
file["more"] = [1]
file.flush()
print("open", flush=True)
sys.stdin.read()
"""


def test_a_file_that_another_process_writes_to(tmp_path):
    path = pieces(tmp_path, 1)[0]
    environment = {**os.environ, "HDF5_USE_FILE_LOCKING": "TRUE"}
    command = [sys.executable, "-c", WRITER, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as writer:
        assert writer.stdout.readline() == "open\n"
        assert H5Data(1).count_file(path) == 3
        assert H5Data(1).read_rows(path, 0, 1)[1].tolist() == [0]
        writer.stdin.close()


def test_files_without_the_right_to_write(tmp_path):
    path = pieces(tmp_path, 1)[0]
    os.chmod(path, 0o444)
    os.chmod(tmp_path, 0o555)
    try:
        data = H5Data(1)
        assert data.count_file(path) == 3
        assert data._open[path].mode == "r"
        before = os.stat(path).st_mtime_ns
        data.read_rows(path, 0, 3)
        assert os.stat(path).st_mtime_ns == before
    finally:
        os.chmod(tmp_path, 0o755)


def test_locks_are_not_asked_for(tmp_path, monkeypatch):
    path, asked, real = pieces(tmp_path, 1)[0], [], h5py.File
    monkeypatch.setattr(
        h5py, "File", lambda *args, **options: asked.append((args[1], options)) or real(*args, **options)
    )
    H5Data(1).count_file(path)
    assert asked == [("r", {"locking": False})]


class Doubled(H5Data):
    def load_data(self, file):
        x, y = super().load_data(file)
        return x * 2, y


def test_load_data_of_a_subclass_is_what_counts(file):
    data, plain = Doubled(2), H5Data(2)
    assert data.whole_files and not plain.whole_files
    assert data.inspect_file(file) == plain.inspect_file(file)
    wanted = plain.read_rows(file, 1, 3)[0] * 2
    assert data.read_rows(file, 1, 3)[0].tolist() == wanted.tolist()
    into = np.empty((2, 2, 2))
    data.fill_rows(file, 1, 3, into, np.empty(2))
    assert into.tolist() == wanted.tolist()


def test_batches_of_the_files_of_a_rank(tmp_path):
    data = H5Data(4)
    data.file_names = pieces(tmp_path, 5)
    assert data.count_data() == 15
    batches = list(data.generate_data())
    assert [rows(y) for _, y in batches] == [4, 4, 4, 3]
    assert np.concatenate([y for _, y in batches]).tolist() == sorted(list(range(5)) * 3)


@pytest.mark.parametrize("batch", [0, -1, 2.0, "3", None])
def test_impossible_batches(batch):
    with pytest.raises(OptionsError, match="--batch must be at least 1"):
        H5Data(batch)


def test_a_batch_size_of_numpy():
    assert type(H5Data(np.int64(3)).batch_size) is int
