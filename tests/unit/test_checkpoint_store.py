"""A folder of checkpoints: whatever happens to those who write to it, a whole checkpoint is there."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from nnlo.errors import DataError, OptionsError
from nnlo.logs import LOG
from nnlo.training.checkpoint.parcel import Tree, packed
from nnlo.training.checkpoint.store import BEST, MANIFEST, STATUS, UNFINISHED, Draft, Saved, Store, newest
from nnlo.training.strict_json import dumps

Files = Mapping[str, bytes]

OLD: Files = {"master": b"the old one" * 9, "worker-1": b"old"}
NEW: Files = {"master": b"the new one" * 9, "worker-2": b"new"}
LATER: Files = {"master": b"the one after"}


def fill(draft: Draft, files: Files) -> Draft:
    """Each file in two pieces."""
    for name, data in files.items():
        draft.begin(name)
        draft.add(data[: len(data) // 2])
        draft.add(memoryview(data)[len(data) // 2 :])
        draft.end()
    return draft


def write(store: Store, files: Files, **about: Any) -> Path:
    return fill(store.draft(), files).finish(about, store.following())


def held(saved: Saved | None) -> Files:
    """The files of a checkpoint that is there."""
    assert saved is not None
    return {name: saved.data(name) for name in saved.about["files"]}


def listed(base: Path) -> list[str]:
    return sorted(path.name for path in base.iterdir())


def unfinished(base: Path) -> list[str]:
    return [name for name in listed(base) if name.startswith(UNFINISHED)]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.LogCaptureFixture]:
    """The log from warnings on."""
    monkeypatch.setattr(LOG, "handlers", [caplog.handler])
    monkeypatch.setattr(LOG, "propagate", False)
    with caplog.at_level(logging.WARNING, LOG.name):
        yield caplog


# What is written is read.


def test_what_is_finished_is_read_back(tmp_path: Path) -> None:
    tree: Tree = {"w": torch.arange(5.0), "n": [1, None]}
    store = Store(tmp_path / "a" / "b")
    path = write(store, {"master": packed(tree), "empty": b""}, epoch=1.5, job={"seed": 3})
    found = newest(store.base)
    assert found is not None and found.folder == path == store.base / "000001"
    got = found.tree("master")
    assert torch.equal(got["w"], tree["w"]) and got["n"] == tree["n"] and found.data("empty") == b""
    about = {name: found.about[name] for name in ("format", "epoch", "job")}
    assert about == {"format": 1, "epoch": 1.5, "job": {"seed": 3}}
    assert listed(store.base) == ["000001"] and listed(path) == ["empty", MANIFEST, "master"]


def test_the_manifest_has_the_size_and_the_digest_of_each_file(tmp_path: Path) -> None:
    saved = Saved(write(Store(tmp_path), OLD))
    assert saved.about["files"] == {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in OLD.items()
    }


def test_a_file_that_is_dropped_is_not_part_of_it(tmp_path: Path) -> None:
    draft = Store(tmp_path).draft()
    for data in (b"too early", b"dead", b"right"):
        draft.begin("worker-1")
        draft.add(data)
        if data == b"right":
            draft.end()
        else:
            draft.drop("worker-1")
    draft.begin("worker-2")
    draft.drop("worker-2")
    path = draft.finish({}, "000001")
    assert held(Saved(path)) == {"worker-1": b"right"} and listed(path) == [MANIFEST, "worker-1"]


def test_a_draft_that_is_discarded_leaves_nothing(tmp_path: Path) -> None:
    draft = fill(Store(tmp_path).draft(), OLD)
    draft.begin("more")
    draft.discard()
    draft.discard()
    assert listed(tmp_path) == []


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    write(store, OLD)
    with pytest.raises(DataError, match=r"cannot write there"):
        fill(store.draft(), NEW).finish({}, "000001")
    assert held(newest(tmp_path)) == OLD and listed(tmp_path) == ["000001"]


# Names.


def test_names_go_up(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert (store.names(), store.following()) == ([], "000001")
    assert [write(store, OLD).name for _ in range(3)] == ["000001", "000002", "000003"]
    shutil.rmtree(tmp_path / "000001")
    assert write(store, OLD).name == "000004"
    assert store.names() == ["000002", "000003", "000004"]


def test_names_go_on_after_six_figures(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "999999").mkdir()
    assert write(store, NEW).name == "1000000"
    assert store.names() == ["999999", "1000000"] and held(newest(tmp_path)) == NEW


def test_other_things_in_the_folder_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("12", "000001.old", "x000001", "00001a", f"{UNFINISHED}000009"):
        (tmp_path / name).mkdir()
    assert Store(tmp_path).names() == [] and newest(tmp_path) is None


# What is kept.


@pytest.mark.parametrize("keep", [1, 2, 3, 9])
def test_the_last_ones_are_kept(keep: int, tmp_path: Path) -> None:
    store = Store(tmp_path, keep)
    for number in range(5):
        write(store, {"n": b"%d" % number})
        store.clean()
    assert store.names() == [f"{number:06d}" for number in range(1, 6)][-keep:]
    assert listed(tmp_path) == store.names() and held(newest(tmp_path)) == {"n": b"4"}


def test_the_best_one_is_kept_too(tmp_path: Path) -> None:
    store = Store(tmp_path, keep=1)
    assert store.best() is None
    for number in range(1, 6):
        name = write(store, {"n": b"%d" % number}).name
        if number in (2, 4):
            store.mark_best(name)
        store.clean()
        assert store.names() == {1: ["000001"], 2: ["000002"]}.get(
            number, [["000002", "000003"], ["000004"], ["000004", "000005"]][number - 3]
        )
    assert store.best() == "000004" and held(Saved(tmp_path / "000004")) == {"n": b"4"}
    assert (tmp_path / BEST).read_text() == "000004\n"


@pytest.mark.parametrize("text", [b"", b"worst", b"../000001", b"\xff\xfe", b"12"])
def test_a_mark_that_names_no_checkpoint_marks_none(text: bytes, tmp_path: Path) -> None:
    (tmp_path / BEST).write_bytes(text)
    assert Store(tmp_path).best() is None


def test_one_that_cannot_be_removed_stays_and_is_told_of(
    tmp_path: Path, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path, keep=1)
    write(store, OLD)
    write(store, NEW)
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", failing(os.rename, 0, errno.EACCES))
        store.clean()
    assert store.names() == ["000001", "000002"] and "000001: cannot remove (Permission denied)" in told.text


# What is damaged.


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\n")


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_another(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


DAMAGES = [flip, truncate, empty, Path.unlink, replace_by_a_folder, replace_by_another]


@pytest.mark.parametrize("damage", [*DAMAGES, lengthen])
@pytest.mark.parametrize("name", ["master", "worker-2"])
def test_after_damage_to_a_file_the_one_before_is_found(
    name: str, damage: Callable[[Path], None], tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    write(store, OLD)
    path = write(store, NEW) / name
    damage(path)
    assert held(newest(tmp_path)) == OLD
    (line,) = told.messages
    assert line.startswith(f"{path}: ") and line.endswith(f"restoring {tmp_path / '000001'}, the one before")


@pytest.mark.parametrize("damage", DAMAGES)
def test_after_damage_to_a_manifest_the_one_before_is_found(
    damage: Callable[[Path], None], tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    write(store, OLD)
    path = write(store, NEW) / MANIFEST
    damage(path)
    assert held(newest(tmp_path)) == OLD
    (line,) = told.messages
    assert line.startswith(f"{path}: ")


def test_a_manifest_with_any_byte_changed_is_not_taken_for_another(tmp_path: Path) -> None:
    path = write(Store(tmp_path), {"n": b"1"}) / MANIFEST
    data, about = path.read_bytes(), Saved(path.parent).about
    for i in range(len(data)):
        path.write_bytes(data[:i] + bytes([data[i] ^ 1 << i % 8]) + data[i + 1 :])
        with suppress(DataError):
            assert Saved(path.parent).about == about


@pytest.mark.parametrize("text", ["", "null", "1", "[]", "{}", '{"content": 1, "sha256": ""}', "[" * 100_000, "\0"])
def test_json_that_is_no_manifest(text: str, tmp_path: Path) -> None:
    path = write(Store(tmp_path), OLD)
    (path / MANIFEST).write_text(text)
    with pytest.raises(DataError, match=f"{path / MANIFEST}: damaged: it is not as it was written"):
        newest(tmp_path)


def test_several_damaged_ones_are_all_told_of(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    paths = [write(store, files) for files in (OLD, NEW, LATER)]
    flip(paths[1] / "master")
    (paths[2] / MANIFEST).unlink()
    assert held(newest(tmp_path)) == OLD
    assert [line.split(": ")[0] for line in told.messages] == [str(paths[2] / MANIFEST), str(paths[1] / "master")]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", [MANIFEST, "master"])
def test_where_no_other_is_whole_it_is_an_error(name: str, damage: Callable[[Path], None], tmp_path: Path) -> None:
    store = Store(tmp_path)
    paths = [write(store, OLD) / name, write(store, NEW) / name]
    for path in paths:
        damage(path)
    with pytest.raises(DataError, match=f"^{paths[1]}: .* {tmp_path} has no other: name another folder"):
        newest(tmp_path)


def test_one_of_another_version_is_not_read(tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    store = Store(tmp_path)
    path = write(store, NEW, format=2)
    with pytest.raises(DataError, match=f"^{path}: a checkpoint of another version"):
        newest(tmp_path)
    shutil.move(path, tmp_path / "000002")
    write(Store(tmp_path), OLD)
    shutil.move(tmp_path / "000003", tmp_path / "000001")
    assert held(newest(tmp_path)) == OLD and "another version" in told.text


# Where there is none.


def test_none_in_a_folder_that_is_empty_or_absent(tmp_path: Path) -> None:
    assert newest(tmp_path) is None and newest(tmp_path / "absent") is None
    assert Store(tmp_path / "absent").names() == []


def test_a_file_is_no_folder_of_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(DataError, match=f"^{path}: cannot read \\(Not a directory\\)"):
        newest(path)
    with pytest.raises(OptionsError, match=f"^--checkpoint {path}: cannot write there \\(File exists\\)"):
        Store(path).open()
    draft = fill(Store(path).draft(), OLD)
    assert draft.fault == f"--checkpoint {path}: cannot write there (Not a directory)"
    with pytest.raises(DataError, match=r"Not a directory"):
        draft.finish({}, "000001")
    assert path.read_bytes() == b""


def test_a_checkpoint_itself_is_one_to_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    older, newer = write(store, OLD), write(store, NEW)
    assert held(newest(older)) == OLD and held(newest(newer)) == NEW
    flip(newer / "master")
    with pytest.raises(DataError, match=f"^{newer / 'master'}: damaged"):
        newest(newer)


# What writers that were killed have left.


def test_what_is_unfinished_is_never_read_and_goes_when_the_folder_is_opened(
    tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path)
    write(store, OLD)
    store.mark_best("000001")
    fill(store.draft(), NEW)
    shutil.copytree(tmp_path / "000001", tmp_path / f"{UNFINISHED}000002")
    (tmp_path / "mine").mkdir()
    assert store.names() == ["000001"] and held(newest(tmp_path)) == OLD and not told.messages
    assert len(unfinished(tmp_path)) == 2
    store.open()
    assert listed(tmp_path) == ["000001", BEST, "mine"] and held(newest(tmp_path)) == OLD


def test_opening_makes_the_folder(tmp_path: Path) -> None:
    Store(tmp_path / "a" / "b").open()
    assert listed(tmp_path / "a" / "b") == []


# A disk that is full.


def failing(work: Callable[..., Any], after: int, number: int = errno.ENOSPC) -> Callable[..., Any]:
    """`work` so many times; from then on the system has this against it."""
    left = iter(range(after))

    def attempt(*args: Any, **options: Any) -> Any:
        if next(left, None) is None:
            raise OSError(number, os.strerror(number))
        return work(*args, **options)

    return attempt


def until_the_first_failure(first: Callable[..., Any], then: Callable[..., Any]) -> Callable[..., Any]:
    failed: list[bool] = []

    def attempt(*args: Any, **options: Any) -> Any:
        try:
            return (then if failed else first)(*args, **options)
        except OSError:
            failed.append(True)
            raise

    return attempt


def calls_of(name: str, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> int:
    """How often `work` calls the function of `os` of that name."""
    calls = []
    real = getattr(os, name)

    def noted(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return real(*args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, name, noted)
        work()
    return len(calls)


def test_a_full_disk_leaves_the_older_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    writes = calls_of("write", lambda: write(store, OLD), monkeypatch)
    assert writes >= 2 * len(OLD) + 1
    for after in range(writes):
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", failing(os.write, after))
            draft = fill(store.draft(), NEW)
            if after < 2 * len(NEW):
                assert draft.fault == f"--checkpoint {tmp_path}: cannot write there (No space left on device)"
            with pytest.raises(DataError, match=r"No space left on device"):
                draft.finish({}, store.following())
        assert listed(tmp_path) == ["000001"] and held(newest(tmp_path)) == OLD
    assert write(store, NEW).name == "000002"


def test_after_a_fault_nothing_more_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    draft = store.draft()
    draft.begin("master")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", failing(os.write, 0))
        draft.add(b"some")
    fault, (left,) = draft.fault, unfinished(tmp_path)
    before = listed(tmp_path / left)

    def more() -> None:
        draft.add(b"more")
        draft.end()
        draft.drop("master")
        fill(draft, NEW)

    for name in ("open", "write", "close", "unlink"):
        assert calls_of(name, more, monkeypatch) == 0
    assert draft.fault == fault and fault is not None and listed(tmp_path / left) == before
    with pytest.raises(DataError) as raised:
        draft.finish({}, "000001")
    assert str(raised.value) == fault and listed(tmp_path) == []


@pytest.mark.parametrize("name", ["open", "close", "fsync", "rename", "mkdir"])
def test_whatever_the_system_refuses_one_checkpoint_is_whole(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = calls_of(name, lambda: write(Store(tmp_path / "count"), OLD), monkeypatch)
    assert calls
    for after in range(calls):
        store = Store(tmp_path / str(after))
        write(store, OLD)
        once = failing(getattr(os, name), after)
        with monkeypatch.context() as patched:
            patched.setattr(os, name, until_the_first_failure(once, getattr(os, name)))
            with suppress(DataError):
                write(store, NEW)
        assert not unfinished(store.base)
        assert held(newest(store.base)) in (OLD, NEW)


def a_few_bytes(descriptor: int, data: Any, real: Callable[[int, Any], int] = os.write) -> int:
    """What a system may do that has not got room for all."""
    return real(descriptor, data[:7])


def test_writes_of_a_file_that_take_a_part_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = Store(tmp_path).draft()
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", a_few_bytes)
        fill(draft, OLD)
    draft.finish({}, "000001")
    assert held(newest(tmp_path)) == OLD


def test_writes_of_a_manifest_that_take_a_part_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draft = fill(Store(tmp_path).draft(), OLD)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", a_few_bytes)
        draft.finish({}, "000001")
    assert held(newest(tmp_path)) == OLD


def test_a_full_disk_that_is_told_of_again_when_the_file_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    draft = store.draft()
    draft.begin("master")
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", failing(os.write, 0))
        draft.add(b"some")
        patched.setattr(os, "close", until_the_first_failure(failing(os.close, 0), os.close))
        with pytest.raises(DataError, match=r"No space left on device"):
            draft.finish({}, "000001")
    assert listed(tmp_path) == []


# Writers that end in the midst of it.

CALLS = ("open", "write", "close", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir")
ENDED = 77
CONTENTS, NAMES = "contents", "names"


class Text(io.RawIOBase):
    """What open(path, "w") opens, by calls that are counted."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return os.write(self._descriptor, data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._descriptor)


class Ending:
    """Ends this process at the call number `last`: before its work, after it, or halfway through one that writes.

    lost: the machine goes down at that moment too, and loses these of what it was not told to put on the disk: the
    contents of files, and the names that files and folders were given.
    """

    def __init__(self, last: int, moment: str, lost: tuple[str, ...]) -> None:
        self._left, self._moment, self._lost = last, moment, lost
        self._real = {name: getattr(os, name) for name in CALLS}
        self._undo: list[tuple[int, str, Callable[[], object]]] = []
        self.called: set[str] = set()

    def install(self) -> None:
        patch, opened = pytest.MonkeyPatch(), io.open
        for name in CALLS:
            patch.setattr(os, name, partial(self._call, name))

        def open_file(path: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if mode != "w":
                return opened(path, mode, *args, **options)
            return io.TextIOWrapper(io.BufferedWriter(Text(path)), encoding="utf-8")

        patch.setattr(io, "open", open_file)

    def _call(self, name: str, *args: Any, **options: Any) -> Any:
        self.called.add(name)
        counts = name == "write" or self._moment != "halfway"
        ends, self._left = counts and self._left == 0, self._left - counts
        if ends and self._moment == "before":
            self._end()
        if ends and self._moment == "halfway":
            args = (args[0], args[1][: len(args[1]) // 2])
        self._remember_replaced(name, args)
        try:
            done = self._real[name](*args, **options)
            self._remember(name, args)
            return done
        finally:
            if ends:
                self._end()

    def _remember_replaced(self, name: str, args: tuple[Any, ...]) -> None:
        if name in ("rename", "replace"):
            source, target = (Path(one) for one in args)
            data = target.read_bytes() if target.is_file() else None
            self._undo.append((target.parent.stat().st_ino, NAMES, partial(self._back, source, target, data)))

    def _back(self, source: Path, target: Path, data: bytes | None) -> None:
        self._real["rename"](target, source)
        if data is not None:
            target.write_bytes(data)

    def _remember(self, name: str, args: tuple[Any, ...]) -> None:
        """How to lose what this call did; what is put on the disk cannot be lost any more."""
        if name == "write":
            own = os.dup(args[0])
            self._undo.append((os.fstat(own).st_ino, CONTENTS, partial(os.ftruncate, own, 0)))
        elif name == "open" and args[1] & os.O_CREAT:
            path = Path(args[0])
            folder = self._real["open"](path.parent, os.O_RDONLY)
            remove = partial(self._real["unlink"], path.name, dir_fd=folder)
            self._undo.append((os.fstat(folder).st_ino, NAMES, remove))
        elif name == "fsync":
            safe = os.fstat(args[0]).st_ino
            self._undo = [one for one in self._undo if one[0] != safe]

    def _end(self) -> None:
        for _, kind, undo in reversed(self._undo):
            if kind in self._lost:
                with suppress(OSError):
                    undo()
        os._exit(ENDED)


def ended(work: Callable[[], object], ending: Ending, wanted: set[str]) -> bool:
    """Whether a child that does this work was ended; if not, it made these calls."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            ending.install()
            work()
            assert wanted <= ending.called, "calls that go another way are not counted"
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, ENDED)
    return code == ENDED


WAYS = [("before", ()), ("halfway", ()), ("after", ())]


@pytest.mark.parametrize(("moment", "lost"), [*WAYS, ("after", (CONTENTS, NAMES))])
def test_whenever_a_writer_ends_one_checkpoint_is_whole(moment: str, lost: tuple[str, ...], tmp_path: Path) -> None:
    def second(base: Path) -> None:
        store = Store(base, keep=1)
        write(store, LATER)
        store.clean()

    seen = []
    write(Store(tmp_path / "begun"), OLD)
    for last in count():
        store = Store(tmp_path / str(last), keep=1)
        shutil.copytree(tmp_path / "begun", store.base)
        was_ended = ended(partial(second, store.base), Ending(last, moment, lost), set(CALLS) - {"replace"})
        found = held(newest(store.base))
        assert found in (OLD, LATER)
        if not lost:
            assert all(held(Saved(store.base / name)) in (OLD, LATER) for name in store.names())
        store.open()
        assert not unfinished(store.base) and held(newest(store.base)) == found
        seen.append(found)
        if not was_ended:
            break
        write(store, NEW)
        store.clean()
        assert held(newest(store.base)) == NEW and len(store.names()) == 1
    assert store.names() == ["000002"]
    assert seen == sorted(seen, key=lambda one: one == LATER) and OLD in seen


@pytest.mark.parametrize(("moment", "lost"), [*WAYS, ("after", (CONTENTS,))])
@pytest.mark.parametrize("name", [STATUS, BEST])
def test_whenever_a_writer_ends_the_old_text_or_the_new_is_there(
    name: str, moment: str, lost: tuple[str, ...], tmp_path: Path
) -> None:
    def say(store: Store, number: int) -> None:
        if name == STATUS:
            store.status(state="running", checkpoint=f"{number:06d}")
        else:
            store.mark_best(f"{number:06d}")

    texts = {
        STATUS: [dumps({"state": "running", "checkpoint": f"00000{number}"}) for number in (1, 2)],
        BEST: ["000001\n", "000002\n"],
    }[name]
    for last in count():
        store = Store(tmp_path / str(last))
        store.open()
        say(store, 1)
        was_ended = ended(
            partial(say, store, 2), Ending(last, moment, lost), {"open", "write", "close", "fsync", "replace"}
        )
        text = (store.base / name).read_text()
        assert text in texts
        if not was_ended:
            break
    assert text == texts[1] and last > (0 if moment == "halfway" else 5)


def test_the_status_is_strict_json(tmp_path: Path) -> None:
    Store(tmp_path / "new").status(state="ended", exit_code=None, loss=float("nan"))
    text = (tmp_path / "new" / STATUS).read_text()
    assert json.loads(text) == {"state": "ended", "exit_code": None, "loss": None}


@pytest.mark.parametrize("say", [lambda store: store.status(state="x"), lambda store: store.mark_best("000001")])
def test_a_text_that_cannot_be_written_is_told_of(
    say: Callable[[Store], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    say(store)
    before = [(path.name, path.read_bytes()) for path in tmp_path.iterdir()]
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, failing(getattr(os, name), 0))
            with pytest.raises(DataError, match=r"No space left on device"):
                say(store)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == before
