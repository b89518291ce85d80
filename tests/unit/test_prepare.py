"""Preparing data sets: IDX files, pieces, lists, and the GetData command."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import os
import resource
import struct
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from nnlo.data.prepare import Images, Split, data_home, mnist, prepare, prepared, preparers
from nnlo.data.prepare.home import read_list
from nnlo.data.prepare.idx import parse_idx, unpacked
from nnlo.data.prepare.pieces import publish, write_part, write_set
from nnlo.drivers import GetData
from nnlo.errors import DataError, OptionsError

REAL = Path(os.environ.get("NNLO_TEST_MNIST") or Path(__file__).parents[2] / "../shared/data/mnist")
needs_mnist = pytest.mark.skipif(not REAL.is_dir(), reason=f"no MNIST in {REAL}: name its folder in NNLO_TEST_MNIST")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("NNLO_DATA", str(tmp_path / "home"))
    return tmp_path / "home"


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A folder of four small files in MNIST's form, whose checksums pass for MNIST's."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", 11), ("t10k", 5)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = random.integers(0, 10, count, dtype=np.uint8)
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            monkeypatch.setitem(mnist.SHA256, name, hashlib.sha256(idx(array)).hexdigest())
    return folder


def read(path):
    """All features and labels that a list names, and the number of samples of each piece."""
    features, labels = [], []
    for piece in read_list(path):
        with h5py.File(piece) as file:
            assert sorted(file) == ["features", "labels"]
            features.append(file["features"][:])
            labels.append(file["labels"][:])
    return np.concatenate(features), np.concatenate(labels), [len(part) for part in labels]


def check_form(features, labels, count):
    assert features.shape == (count, 28, 28, 1)
    assert features.dtype == labels.dtype == np.float32
    assert features.min() == 0
    assert features.max() == 1
    assert labels.shape == (count, 10)
    assert set(np.unique(labels)) == {0, 1}
    np.testing.assert_array_equal(labels.sum(1), 1)


def small_split(count=10):
    images = Images(np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2, 1), np.arange(count) % 3, classes=3)
    return Split(images, images)


def run_driver(capsys, *words):
    """Exit code, stdout and stderr of GetData."""
    with pytest.raises(SystemExit) as end:
        GetData.main(words)
    out, err = capsys.readouterr()
    return end.value.code, out, err


# --- where data live


def test_home_follows_the_environment(monkeypatch, tmp_path):
    assert data_home() == tmp_path / "home"
    monkeypatch.setenv("NNLO_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert data_home() == tmp_path / "cache/nnlo"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_home() == tmp_path / ".cache/nnlo"


def test_prepared_wants_both_lists_and_every_piece(home):
    assert prepared("digits") is None
    done = prepare("digits")
    assert (
        prepared("digits")
        == (done.train_list, done.test_list)
        == (home / "train_digits.list", home / "test_digits.list")
    )
    (home / "digits/train_002.h5").unlink()
    assert prepared("digits") is None
    assert prepare("digits").samples is not None
    done.test_list.write_text("")
    assert prepared("digits") is None


def test_a_prepared_folder_can_be_moved(tmp_path, home):
    prepare("digits")
    home.rename(tmp_path / "moved")
    assert prepared("digits") is None
    assert prepared("digits", tmp_path / "moved") is not None


# --- digits


def test_digits(home):
    done = prepare("digits")
    assert done.pieces == (4, 1)
    assert done.samples == (1437, 360)
    train, train_labels, sizes = read(done.train_list)
    test, test_labels, _ = read(done.test_list)
    check_form(train, train_labels, 1437)
    check_form(test, test_labels, 360)
    assert max(sizes) - min(sizes) <= 1
    assert test_labels.sum(0).min() >= 20
    assert done.train_list.read_text() == "".join(f"digits/train_00{i}.h5\n" for i in range(4))


def test_digits_look_like_their_originals():
    from sklearn.datasets import load_digits

    order = np.random.default_rng(0).permutation(1797)
    originals = load_digits().images[order][-360:] / 16
    shown = preparers["digits"].load(None).test.arrays(0, 360)["features"][:, 4:24, 4:24, 0]
    for image, original in zip(shown, originals, strict=True):
        blocks = np.kron(original, np.ones((5, 5))), np.kron(image, np.ones((2, 2)))
        assert np.corrcoef(blocks[0].ravel(), blocks[1].ravel())[0, 1] > 0.8


def test_the_same_digits_every_time(tmp_path):
    for name in "ab":
        prepare("digits", tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 7
    assert all((tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes() for file in files)


# --- pieces


def test_pieces_hold_all_samples_in_order(tmp_path):
    write_set("x", tmp_path, small_split(), (3, 10))
    features, labels, sizes = read(tmp_path / "train_x.list")
    assert sizes == [3, 3, 4]
    np.testing.assert_array_equal(features, (np.arange(40).reshape(10, 2, 2, 1) / np.float32(255)).astype(np.float32))
    np.testing.assert_array_equal(labels.argmax(1), np.arange(10) % 3)
    assert read(tmp_path / "test_x.list")[2] == [1] * 10


@pytest.mark.parametrize("count", [0, -1, 11])
def test_impossible_pieces_leave_nothing(tmp_path, count):
    with pytest.raises(OptionsError, match=f"--test-pieces must be from 1 to the 10 samples there are, not {count}"):
        write_set("x", tmp_path / "x", small_split(), (1, count))
    assert not (tmp_path / "x").exists()


def test_pieces_of_zero_are_refused():
    with pytest.raises(OptionsError, match="--train-pieces"):
        prepare("digits", train_pieces=0)


def test_overwriting_leaves_no_old_piece_and_nobody_elses_file(tmp_path):
    write_set("x", tmp_path, small_split(), (4, 2))
    (tmp_path / "x/train-images-idx3-ubyte.gz").write_text("somebody's")
    write_set("x", tmp_path, small_split(), (2, 1), overwrite=True)
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == [
        "test_000.h5",
        "train-images-idx3-ubyte.gz",
        "train_000.h5",
        "train_001.h5",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test_x.list", "train_x.list", "x"]


class Breaking:
    """Samples whose second half cannot be had."""

    def __len__(self):
        return 10

    def arrays(self, start, stop):
        if start >= 5:
            raise KeyboardInterrupt
        return {"features": np.zeros((stop - start, 1))}


def test_an_interrupted_preparation_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write_set("x", tmp_path, Split(small_split().train, Breaking()), (2, 2))
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_preparation_keeps_what_was_there(tmp_path):
    write_set("x", tmp_path, small_split(), (2, 2))
    with pytest.raises(KeyboardInterrupt):
        write_set("x", tmp_path, Split(Breaking(), Breaking()), (2, 2), overwrite=True)
    assert prepared("x", tmp_path) is not None
    assert len(read(tmp_path / "train_x.list")[0]) == 10


def test_publishing_cut_short_counts_as_not_prepared(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for part in Split._fields:
        write_part("x", part, scratch, small_split().train, 2)
    real, calls = os.replace, []

    def failing(source, target):
        calls.append(target)
        if len(calls) == 5:
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr("os.replace", failing)
    with pytest.raises(OSError, match="No space"):
        publish("x", scratch, tmp_path)
    assert prepared("x", tmp_path) is None


def test_a_set_made_meanwhile_stays(tmp_path):
    write_set("x", tmp_path, small_split(), (2, 2))
    write_set("x", tmp_path, small_split(), (5, 5))
    assert len(read_list(tmp_path / "train_x.list")) == 2


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = Images(np.zeros((100, 28, 28, 1), np.uint8), np.zeros(100, int), classes=10)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(DataError, match="cannot write 'x'") as caught:
            write_set("x", tmp_path, Split(big, big), (1, 1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="another --dest"):
        prepare("digits", tmp_path / "file")


# --- IDX


def test_idx_round_trip(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    for path, content in ((tmp_path / "a.gz", gzip.compress(idx(array))), (tmp_path / "a", idx(array))):
        path.write_bytes(content)
        np.testing.assert_array_equal(parse_idx(unpacked(path), path), array)


GOOD = idx(np.zeros((2, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\x89PNG1234", "not an IDX file"),
        (b"\0\0\x0d" + GOOD[3:], "not an IDX file of bytes"),
        (GOOD[:7], "7 bytes where"),
        (GOOD[:-1], "17 bytes where its header tells of 18"),
        (GOOD + b"x", "19 bytes where its header tells of 18"),
        (b"\0\0\x08\0", "bytes where"),
    ],
)
def test_wrong_idx_content_names_the_file(content, message):
    with pytest.raises(DataError, match=message) as caught:
        parse_idx(content, Path("some/file.gz"))
    assert str(caught.value).startswith("some/file.gz: ")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda packed: b"<html>", "not a gzip file"),
        (lambda packed: packed[: len(packed) // 2], "truncated or damaged"),
        (lambda packed: packed[:5], "truncated or damaged"),
        (lambda packed: packed[:-6] + b"\0" * 6, "gzip|damaged"),
        (lambda packed: packed[:20] + b"\xff" * 20 + packed[40:], "gzip|damaged"),
        (lambda packed: b"", "IDX"),
    ],
)
def test_damaged_gzip_names_the_file(tiny, damage, message):
    path = tiny / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=message) as caught:
        prepare("mnist", source=tiny)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert prepared("mnist") is None


# --- MNIST


def test_tiny_mnist(tiny):
    done = prepare("mnist", source=tiny, train_pieces=3, test_pieces=2)
    assert (done.pieces, done.samples) == ((3, 2), (11, 5))
    features, labels, sizes = read(done.train_list)
    check_form(features, labels, 11)
    assert sizes == [3, 4, 4]
    raw = parse_idx(unpacked(tiny / "train-images-idx3-ubyte.gz"), tiny)
    np.testing.assert_array_equal(np.rint(features[..., 0] * 255), raw)


def test_decompressed_and_recompressed_files_are_the_same_content(tiny):
    images, labels = tiny / "train-images-idx3-ubyte.gz", tiny / "train-labels-idx1-ubyte.gz"
    images.with_suffix("").write_bytes(unpacked(images))
    images.unlink()
    labels.write_bytes(gzip.compress(unpacked(labels), compresslevel=0))
    assert prepare("mnist", source=tiny, train_pieces=1, test_pieces=1).samples == (11, 5)


def test_other_content_under_the_same_name(tiny):
    path = tiny / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(11, np.uint8))))
    with pytest.raises(DataError, match="not MNIST's") as caught:
        prepare("mnist", source=tiny)
    assert str(path) in str(caught.value)


def test_missing_files_are_all_named(tiny):
    (tiny / "train-images-idx3-ubyte.gz").unlink()
    (tiny / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"no train-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz there"):
        prepare("mnist", source=tiny)


@needs_mnist
def test_real_mnist(capsys):
    with tempfile.TemporaryDirectory() as folder:  # 220 MB that pytest would keep
        dest = Path(folder)
        words = ["mnist", "--source", str(REAL), "--dest", folder, "--train-pieces", "24", "--test_pieces=4"]
        code, out, err = run_driver(capsys, *words)
        assert (code, err) == (0, "")
        assert "60,000 training samples in 24 pieces, 10,000 test samples in 4" in out
        assert str(dest / "train_mnist.list") in out
        assert [len(read_list(dest / f"{part}_mnist.list")) for part in Split._fields] == [24, 4]
        with h5py.File(read_list(dest / "train_mnist.list")[0]) as piece:
            check_form(piece["features"][:], piece["labels"][:], 2500)
            assert piece["labels"][:8].argmax(1).tolist() == [5, 0, 4, 1, 9, 2, 1, 3]
        assert read(dest / "test_mnist.list")[2] == [2500] * 4


# --- fetching


@pytest.fixture
def server(tiny, monkeypatch):
    """The address of a web server on this machine that holds the tiny files."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *words: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(tiny))) as web:
        threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}/"
        web.shutdown()


def test_fetching_goes_on_to_the_next_mirror(server, tiny, monkeypatch):
    pytest.importorskip("pooch", reason="pooch is not installed")
    (tiny / "broken").mkdir()
    (tiny / "broken/train-labels-idx1-ubyte.gz").write_text("<html>please log in</html>")
    monkeypatch.setattr(mnist, "MIRRORS", (f"{server}broken/", server))
    assert prepare("mnist", train_pieces=1, test_pieces=1).samples == (11, 5)


def test_no_mirror_delivers(server, monkeypatch):
    pytest.importorskip("pooch", reason="pooch is not installed")
    monkeypatch.setattr(mnist, "MIRRORS", (f"{server}here/", f"{server}there/"))
    with pytest.raises(DataError, match=r"cannot fetch .*here/ HTTPError; .*there/ HTTPError.*--source"):
        prepare("mnist")


def test_without_pooch(monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(OptionsError, match=r"pip install pooch.*--source"):
        prepare("mnist")


# --- the command


def test_get_data_and_again(capsys, home):
    code, out, err = run_driver(capsys, "digits", "--train-p", "2")
    assert (code, err) == (0, "")
    assert "digits is ready: 1,437 training samples in 2 pieces, 360 test samples in 1" in out
    assert [line.strip() for line in out.splitlines()[1:3]] == [str(home / f"{p}_digits.list") for p in Split._fields]
    stamp = (home / "digits/train_000.h5").stat().st_mtime_ns
    code, out, _ = run_driver(capsys, "digits")
    assert code == 0
    assert "already there, in 2 training and 1 test pieces; --overwrite" in out
    assert (home / "digits/train_000.h5").stat().st_mtime_ns == stamp
    assert "in 4 pieces" in run_driver(capsys, "digits", "--overwrite")[1]
    assert (home / "digits/train_000.h5").stat().st_mtime_ns > stamp


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "GetData digits or GetData mnist"),
        (["imagenet"], "unknown data set 'imagenet': choose one of cifar10, digits, mnist"),
        (["digits", "--source", "."], "--source"),
        (["digits", "--train-pieces", "0"], "--train-pieces must be at least 1"),
        (["digits", "--train-pieces", "many"], "--train-pieces must be a whole number"),
        (["digits", "--test-pieces", "361"], "--test-pieces must be from 1 to the 360"),
        (["mnist", "--source", "/nonexistent"], "--source /nonexistent"),
        (["digits", "--dest", "/proc/nnlo"], "/proc/nnlo"),
        (["digits", "--fast"], "--fast"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(capsys, home, words, said):
    code, out, err = run_driver(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("GetData: ")
    assert said in err
    assert err.count("\n") == 1
    assert not list(home.glob("**/*.h5"))
