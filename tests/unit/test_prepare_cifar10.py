"""CIFAR-10 from its binary archive: what is read, and the lines for what is not CIFAR-10."""

from __future__ import annotations

import hashlib
import http.server
import io
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest

from nnlo.data.prepare import Images, cifar10, prepare, prepared, preparers, ready
from nnlo.data.prepare.home import read_list
from nnlo.data.prepare.pieces import Joined
from nnlo.drivers import GetData, TrainingDriver
from nnlo.errors import DataError, OptionsError
from nnlo.launcher import RANK_VARIABLES

RECORDS = 6
Contents = dict[str, bytes]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where data are kept; CIFAR-10's files have 6 records here."""
    monkeypatch.setattr(cifar10, "RECORDS", RECORDS)
    monkeypatch.setenv("NNLO_DATA", str(tmp_path / "home"))
    for name in RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture
def contents() -> Contents:
    """Files in CIFAR-10's form by name: random pictures of classes 0 to 9."""
    random = np.random.default_rng(0)
    records = random.integers(0, 256, (len(cifar10.FILES), RECORDS, 3073), np.uint8)
    records[:, :, 0] %= 10
    return {name: part.tobytes() for name, part in zip(cifar10.FILES, records, strict=True)}


def archive(folder: Path, contents: Contents) -> Path:
    """The archive, its files in an order of their own, with others among them."""
    folder.mkdir(exist_ok=True)
    path = folder / cifar10.ARCHIVE
    names = [*sorted(contents, reverse=True), "batches.meta.txt"]
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            add(tar, f"{cifar10.FOLDER}/{name}", contents.get(name, b"airplane\n"))
    return path


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def unpacked(folder: Path, contents: Contents) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """All that a list of pieces holds."""
    features, labels = [], []
    for piece in read_list(path):
        with h5py.File(piece) as file:
            features.append(file["features"][:])
            labels.append(file["labels"][:])
    return np.concatenate(features), np.concatenate(labels)


def check(contents: Contents, done) -> None:
    """Every pixel of every record is where it belongs."""
    for path, names in ((done.train_list, cifar10.TRAIN), (done.test_list, [cifar10.TEST])):
        features, labels = read(path)
        raw = np.frombuffer(b"".join(contents[name] for name in names), np.uint8).reshape(-1, 3073)
        assert features.shape == (len(raw), 32, 32, 3) and features.dtype == labels.dtype == np.float32
        np.testing.assert_array_equal(labels.argmax(1), raw[:, 0])
        np.testing.assert_array_equal(labels.sum(1), 1)
        for sample, row, column, colour in ((0, 0, 0, 0), (1, 0, 1, 0), (2, 1, 0, 1), (3, 31, 30, 2)):
            wanted = raw[sample, 1 + 1024 * colour + 32 * row + column] / np.float32(255)
            assert features[sample, row, column, colour] == wanted
        np.testing.assert_array_equal(np.rint(features.transpose(0, 3, 1, 2).reshape(len(raw), -1) * 255), raw[:, 1:])


@pytest.mark.parametrize("form", ["folder with archive", "archive", "folder with folder", "folder"])
def test_each_form_of_the_source(form: str, contents: Contents, tmp_path: Path) -> None:
    source = tmp_path / "source"
    if "archive" in form:
        path = archive(source, contents)
        source = source if form.startswith("folder") else path
    else:
        inner = unpacked(source / cifar10.FOLDER, contents)
        source = source if form == "folder with folder" else inner
    done = prepare("cifar10", source=source, train_pieces=4, test_pieces=2)
    assert (done.pieces, done.samples) == ((4, 2), (30, 6))
    check(contents, done)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "source"]


def test_nothing_of_an_archive_is_unpacked(contents: Contents, tmp_path: Path) -> None:
    """Names that lead elsewhere, links and foreign files are passed over."""
    path = archive(tmp_path / "source", contents)
    with tarfile.open(path, "w:gz") as tar:
        add(tar, "../escaped.bin", b"x" * 10)
        add(tar, "data_batch_1.bin", b"x" * 10)
        link = tarfile.TarInfo(f"{cifar10.FOLDER}/{cifar10.TEST}")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        for name in cifar10.FILES:
            add(tar, f"{cifar10.FOLDER}/{name}", contents[name])
    check(contents, prepare("cifar10", source=path, train_pieces=1, test_pieces=1))
    assert not list(tmp_path.rglob("escaped.bin")) and not list(tmp_path.rglob("*.bin"))


def refusal(source: Path) -> str:
    with pytest.raises(DataError) as caught:
        prepare("cifar10", source=source, train_pieces=1, test_pieces=1)
    assert "\n" not in str(caught.value)
    assert prepared("cifar10") is None
    return str(caught.value)


@pytest.mark.parametrize("change", [lambda c: c[:-1], lambda c: c[:-3073], lambda c: c + c, lambda c: b""])
@pytest.mark.parametrize("packed", [True, False])
def test_files_of_another_size(change, packed: bool, contents: Contents, tmp_path: Path) -> None:
    contents["data_batch_3.bin"] = change(contents["data_batch_3.bin"])
    source = archive(tmp_path / "a", contents) if packed else unpacked(tmp_path / "a", contents)
    said = refusal(source)
    assert f"data_batch_3.bin: {len(contents['data_batch_3.bin'])} bytes where CIFAR-10 has 18438" in said


def test_classes_that_there_are_not(contents: Contents, tmp_path: Path) -> None:
    contents["test_batch.bin"] = contents["test_batch.bin"][:3073] + b"\x0a" + contents["test_batch.bin"][3074:]
    assert "test_batch.bin: class 10 where CIFAR-10 has 0 to 9" in refusal(archive(tmp_path / "a", contents))


def test_missing_files_are_all_named(contents: Contents, tmp_path: Path) -> None:
    for name in ("data_batch_2.bin", "data_batch_5.bin"):
        del contents[name]
    assert "no data_batch_2.bin, data_batch_5.bin there" in refusal(archive(tmp_path / "a", contents))
    assert "no data_batch_2.bin, data_batch_5.bin there" in refusal(unpacked(tmp_path / "b", contents))


@pytest.mark.parametrize("damage", [lambda c: b"<html>", lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c[:60]])
def test_damaged_archives(damage, contents: Contents, tmp_path: Path) -> None:
    path = archive(tmp_path / "a", contents)
    path.write_bytes(damage(path.read_bytes()))
    said = refusal(path)
    assert said.startswith(f"{path}: ") and "download it again" in said


def test_a_flipped_byte_in_the_archive(contents: Contents, tmp_path: Path) -> None:
    path = archive(tmp_path / "a", contents)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert str(path) in refusal(path)


def test_a_source_without_it(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "gone"):
        assert refusal(source).startswith(f"--source {source}: no cifar-10-binary.tar.gz there")


# --- samples in several parts


def test_joined_parts_give_every_range() -> None:
    labels = [np.array([0, 1]), np.array([2]), np.array([0, 2, 1])]
    parts = [Images(np.full((len(one), 1, 1, 1), 51 * i, np.uint8), one, 3) for i, one in enumerate(labels)]
    joined, whole = Joined(tuple(parts)), np.concatenate(labels)
    assert len(joined) == 6
    for start in range(6):
        for stop in range(start + 1, 7):
            arrays = joined.arrays(start, stop)
            np.testing.assert_array_equal(arrays["labels"].argmax(1), whole[start:stop])
            shades = np.repeat([0.0, 0.2, 0.4], [2, 1, 3])[start:stop]
            np.testing.assert_allclose(arrays["features"].ravel(), shades)


# --- fetching


@pytest.fixture
def server(contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The archive on a web server of this machine, where fetching finds it."""
    pytest.importorskip("pooch", reason="pooch is not installed")
    path = archive(tmp_path / "web", contents)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *words: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=str(path.parent))) as web:
        threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setattr(cifar10, "URL", f"http://127.0.0.1:{web.server_port}/{path.name}")
        yield path
        web.shutdown()


def test_it_is_fetched(server: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "MD5", hashlib.md5(server.read_bytes()).hexdigest())
    check(contents, prepare("cifar10", train_pieces=1, test_pieces=1))


def test_what_is_not_the_archive_is_not_taken(server: Path) -> None:
    with pytest.raises(DataError, match=r"cannot fetch http://.*ValueError.*--source"):
        prepare("cifar10")


def test_without_pooch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(OptionsError, match=r"CIFAR-10 needs pooch: pip install pooch.*--source"):
        prepare("cifar10")


# --- the commands


def left(main, *argv: str) -> object:
    with pytest.raises(SystemExit) as end:
        main(argv)
    return end.value.code


def test_get_data_and_what_it_says(contents: Contents, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["cifar10", "--source", str(archive(tmp_path / "a", contents)), "--train-pieces=2", "--test-pieces=1"]
    assert left(GetData.main, *words) == 0
    out = capsys.readouterr().out
    assert "cifar10 is ready: 30 training samples in 2 pieces, 6 test samples in 1" in out
    assert out.endswith("To train on it: mpirun -np 3 TrainingDriver --model cifar10\n")
    assert left(GetData.main, *words, "--dest", str(tmp_path / "b")) == 0
    assert f"--model cifar10 --train-data {tmp_path / 'b' / 'train_cifar10.list'}" in capsys.readouterr().out


def test_what_a_model_trains_on_by_itself(contents: Contents, tmp_path: Path) -> None:
    assert ready(("mnist", "digits")) == "digits"
    assert ready(("cifar10",)) is None
    assert ready(()) is None
    prepare("cifar10", source=archive(tmp_path / "a", contents), train_pieces=1, test_pieces=1)
    assert ready(("cifar10", "digits")) == "cifar10"
    assert ready(("digits", "cifar10")) == "digits"
    with pytest.raises(OptionsError, match="unknown data set 'cifar'"):
        ready(("cifar",))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("cifar10", "no --train-data, and cifar10 is not there: make it with GetData cifar10 --source FOLDER"),
        ("topclass", "model 'topclass' comes without data: name a list of HDF5 files (--train-data)"),
    ],
)
def test_training_without_data_is_one_line(
    model: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(TrainingDriver, "together", lambda work, undo: work())
    assert left(TrainingDriver.main, "--model", model, "--output", str(tmp_path / "out")) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_training_takes_the_prepared_set(
    contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(TrainingDriver, "together", lambda work, undo: work())
    monkeypatch.setattr(TrainingDriver, "world_comm", lambda: None)
    prepare("cifar10", source=archive(tmp_path / "a", contents), train_pieces=1, test_pieces=1)
    small = "conv1=2,conv2=2,conv3=2,dense1=4,dense2=4"
    flags = ["--model-params", small, "--epochs", "1", "--output", str(tmp_path / "out")]
    assert left(TrainingDriver.main, "--model", "cifar10", *flags) == 0
    assert "cifar10: 1 epoch in" in capsys.readouterr().out
    assert preparers["cifar10"].suits["batch"] == 100
