"""Copies of the listed files: once a host, never stale, gone in the end, and errors that name what was listed."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from torch import nn

from nnlo import Algo, Data, H5Data, MPIManager
from nnlo.comm.virtual import VirtualWorld
from nnlo.data import cache
from nnlo.data.cache import LOCK, PREFIX, CacheSettings, CopyCommand, RunFolder
from nnlo.errors import DataError, OptionsError
from nnlo.roles.caching import CachedFiles
from tests.jobs import Built


class Texts(Data):
    """Files of numbers; notes where they were read."""

    read: set[str]

    def load_data(self, file):
        self.__dict__.setdefault("read", set()).add(file)
        column = np.loadtxt(file, dtype=np.float32, ndmin=2)
        return column, column


class Listed(Texts):
    def generate_data(self):
        for file in self.file_names:
            yield self.load_data(file)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Files of the same name in two folders; no variables that ask for a cache."""
    monkeypatch.chdir(tmp_path)
    for name in ("DATA_CACHE", "DATA_COPY_COMMAND"):
        monkeypatch.delenv(name, raising=False)
    for i, name in enumerate(("a", "b", "val")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text("\n".join(str(10 * i + j) for j in range(8)))
    return tmp_path


FILES, VAL = ["a/x.txt", "b/x.txt"], ["val/x.txt"]


def train(data, *, ranks=3, files=FILES, val=VAL, algo=None, **options):
    algo = algo or Algo("sgd", lr=1e-4, loss="mse", metrics=())
    comm = VirtualWorld(ranks) if ranks else None
    built = Built(lambda: nn.Linear(1, 1))
    manager = MPIManager(comm, data, algo, built, 2, files, val, output=None, **options)
    return manager.train()


def left(folder="cached"):
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


@pytest.fixture
def copies(monkeypatch):
    """The files that were copied, in order."""
    made, real = [], cache.copy_plain
    monkeypatch.setattr(cache, "copy_plain", lambda *names: made.append(names) or real(*names))
    return made


@pytest.mark.parametrize("kind", [Texts, Listed])
@pytest.mark.parametrize("ranks", [None, 3])
def test_copies_are_made_once_read_and_removed(kind, ranks, copies):
    data = kind(2, "cached")
    history = train(data, ranks=ranks)
    assert history["train_samples"] == 16 and "val_loss" in history["epochs"][-1]
    assert [source for source, _ in copies] == FILES + VAL
    assert len({target for _, target in copies}) == 3
    assert all(os.path.dirname(os.path.dirname(target)) == os.path.abspath("cached") for _, target in copies)
    assert left() == []


def test_what_is_read_is_the_copy(copies, monkeypatch):
    read = []
    monkeypatch.setattr(Texts, "load_data", lambda self, file: read.append(file) or (np.ones((8, 1)), np.ones((8, 1))))
    train(Texts(2, "cached"))
    assert set(read) == {target for _, target in copies}


def test_without_a_cache_nothing_is_copied(copies):
    train(Texts(2))
    assert copies == []


def test_a_changed_file_is_copied_anew(folder, copies):
    data = Texts(2, "cached")
    train(data)
    (folder / "a/x.txt").write_text("7\n" * 8)
    first = train(data)["epochs"][0]["loss"]
    assert len(copies) == 6 and first == train(Texts(2))["epochs"][0]["loss"]


@pytest.mark.parametrize("kind", [ValueError, DataError])
def test_copies_go_after_a_failure(kind):
    class Fails(Texts):
        def load_data(self, file):
            assert left() != []
            raise kind(f"{file}: no")

    with pytest.raises(kind, match=r"x\.txt: no"):
        train(Fails(2, "cached"))
    assert left() == []


def test_errors_name_the_files_of_the_list(folder):
    with h5py.File("good.h5", "w") as file:
        file["features"], file["labels"] = np.zeros((9, 1)), np.zeros((9, 1))
    (folder / "text.h5").write_text("no data")
    with pytest.raises(DataError) as caught:
        train(H5Data(2, cache="cached"), files=["good.h5", "text.h5"], val=None)
    assert str(caught.value).startswith("text.h5: cannot be read: not an HDF5 file: correct the list")
    assert caught.value.agreed and left() == []


def test_the_environment_stands_in_and_arguments_win(monkeypatch, copies):
    monkeypatch.setenv("DATA_CACHE", "from_environment")
    train(Texts(2))
    assert {Path(target).parts[-3] for _, target in copies} == {"from_environment"}
    train(Texts(2, "given"))
    assert {Path(target).parts[-3] for _, target in copies[3:]} == {"given"}
    monkeypatch.setenv("DATA_COPY_COMMAND", "false {} {}")
    with pytest.raises(DataError, match=r"`false a/x\.txt"):
        train(Texts(2))
    train(Texts(2, copy_command="cp {} {}"))
    monkeypatch.delenv("DATA_CACHE")
    train(Texts(2))  # a command without a folder to copy to: another program's


PROGRAM = """#!/bin/sh
case $2 in far://*) name=${2#far://} ;; *) echo "unknown: $2" >&2; exit 4 ;; esac
cp "$name" "$3"
"""


def test_a_command_copies_what_is_not_here(folder):
    program = folder / "fetch me"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    names = [f"far://{name}" for name in FILES]
    data = Texts(2, "cached", f"'{program}' --from {{}} {{}}")
    assert train(data, files=names, val=None)["train_samples"] == 16
    with pytest.raises(DataError) as caught:
        train(data, files=["a/x.txt"], val=None)
    said = str(caught.value)
    assert said.startswith(f"a/x.txt: `'{program}' --from a/x.txt ") and caught.value.agreed
    assert said.endswith("failed with 4 (unknown: a/x.txt): correct the list or --copy-command") and "\n" not in said
    assert left() == []


def test_the_words_of_a_command():
    assert CopyCommand("cp --from={} 'to {}!'").words("a b", "$HOME;x") == ["cp", "--from=a b", "to $HOME;x!"]
    assert CopyCommand("cp {} {}").words("{}", "{}") == ["cp", "{}", "{}"]


def test_a_command_that_leaves_nothing():
    with pytest.raises(DataError, match=r"a/x.txt: `true a/x.txt \S*` left no file there \(it said nothing\)"):
        train(Texts(2, "cached", "true {} {}"))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("cp {}", "must have two {}"),
        ("cp {} {} {}", "must have two {}"),
        ("", "must have two {}"),
        ("cp '{} {}", "cannot be read"),
        ("no-such-program {} {}", "names no program that is here"),
    ],
)
def test_impossible_commands(command, said):
    with pytest.raises(OptionsError, match="--copy-command") as caught:
        H5Data(2, cache="cached", copy_command=command or " ")
    assert said in str(caught.value) and "cp {} {}" in str(caught.value)


def test_a_command_without_a_cache():
    with pytest.raises(OptionsError, match="--copy-command needs --cache-data"):
        Texts(2, copy_command="cp {} {}")


def test_a_file_that_is_not_there():
    with pytest.raises(DataError) as caught:
        train(Texts(2, "cached"), files=["a/x.txt", "gone.txt"])
    assert str(caught.value).startswith("gone.txt: cannot be copied to --cache-data ")
    assert "(No such file or directory): correct the list" in str(caught.value) and left() == []


def test_a_full_disk(monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache.shutil, "copyfile", full)
    with pytest.raises(DataError, match=r"\(No space left on device\): make room there or name another") as caught:
        train(Texts(2, "cached"))
    assert "\n" not in str(caught.value) and left() == []


@pytest.mark.parametrize("name", ["a/x.txt", "a/x.txt/below", "/proc/nnlo"])
def test_a_folder_that_cannot_be_written(name):
    with pytest.raises(DataError, match=f"--cache-data \\S*{name}: cannot write there"):
        train(Texts(2, name))


def test_what_killed_runs_left_goes_and_what_runs_stays(folder):
    for name in ("dead", "alive"):
        RunFolder(made(folder / "cached" / (PREFIX + name)))._lock.close()
    (folder / "cached" / "nnlo-mine").mkdir()
    RunFolder(made(folder / "cached" / f"{PREFIX}elsewhere"))._lock.close()
    (folder / "cached" / f"{PREFIX}elsewhere" / LOCK).write_text("another host")
    with open(folder / "cached" / f"{PREFIX}alive" / LOCK, "r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        train(Texts(2, "cached"))
    assert left() == ["nnlo-alive", "nnlo-elsewhere", "nnlo-mine"]


def made(path):
    path.mkdir(parents=True)
    return path


def test_an_evaluation_copies_what_it_reads(copies):
    for options, wanted in (({"val": VAL}, VAL), ({"val": None, "train_split": 0.5}, FILES)):
        copies.clear()
        assert evaluate(Texts(2, "cached"), **options) == evaluate(Texts(2), **options)
        assert [source for source, _ in copies] == wanted and left() == []


def evaluate(data, val, **options):
    algo, built = Algo("sgd", loss="mse", metrics=()), Built(lambda: nn.Linear(1, 1))
    manager = MPIManager(VirtualWorld(3), data, algo, built, 2, FILES, val, output=None, **options)
    return manager.evaluate()


def test_hosts_with_one_disk_share_a_copy(copies):
    """Two hosts of two ranks: the first rank of each would copy, but the second finds the folder there."""
    places = [("a", [0]), ("a", [0]), ("b", [0]), ("b", [0])]
    assert four_ranks(Texts(2, "cached"), places, copies) == len(FILES)


def test_hosts_with_disks_of_their_own_copy_each(copies, monkeypatch):
    monkeypatch.setattr(cache, "made", lambda path: path.mkdir(exist_ok=True) or True)
    places = [("a", [0]), ("b", [0]), ("b", [0]), ("a", [0])]
    assert four_ranks(Texts(2, "cached"), places, copies) == 2 * len(FILES)


def four_ranks(data, places, copies):
    """How many copies four ranks at these places make, all of which see them."""
    manager = MPIManager(None, data, Algo("sgd"), Built(nn.Identity), 1, FILES, None, output=None)
    job = dataclasses.replace(manager.job, train_files=FILES)
    manager.close()

    async def main(transport):
        with CachedFiles(job) as cached:
            found = await cached.copied(transport, places)
            seen.append(found.train_files)
            assert all(map(os.path.isfile, found.train_files))
            await transport.allgather(b"")

    seen = []
    VirtualWorld(4).run(main)
    assert len(seen) == 4 and all(one == seen[0] for one in seen) and left() == []
    return len(copies)


def test_names_of_copies():
    long = "é" * 200 + ".h5"
    paths = CacheSettings("/c", None).paths(["p/x.h5", "q/x.h5", "root://host//d/y.h5", "p/x.h5", long], "r")
    assert [os.path.basename(path) for path in paths.values()][:3] == ["000000-x.h5", "000001-x.h5", "000002-y.h5"]
    assert len(paths) == 4 and paths[long].endswith("é.h5") and len(os.fsencode(os.path.basename(paths[long]))) < 255
