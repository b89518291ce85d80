"""Lists of files."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest

from nnlo.data.lists import file_list, read_list
from nnlo.errors import DataError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of lists, and another one that is the current one; `both.h5` is in each."""
    for where in ("lists/sub", "here"):
        (tmp_path / where).mkdir(parents=True)
    for name in ("lists/a.h5", "lists/sub/b.h5", "lists/both.h5", "here/c.h5", "here/both.h5"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "lists"


def listed(folder, content):
    (folder / "x.list").write_bytes(content)
    return read_list(folder / "x.list", "--train-data")


def test_names_are_relative_to_the_list_or_else_to_the_current_folder(folder):
    elsewhere = str(folder.parent / "here" / "c.h5")
    found = listed(folder, f"a.h5\nsub/b.h5\nc.h5\nboth.h5\nnowhere.h5\n{elsewhere}\n".encode())
    inside = [str(folder / name) for name in ("a.h5", "sub/b.h5", "both.h5")]
    assert found == [*inside[:2], "c.h5", inside[2], "nowhere.h5", elsewhere]


def test_a_list_given_by_a_relative_name(folder):
    (folder / "x.list").write_text("a.h5\n")
    found = read_list("../lists/x.list", "--train-data")
    assert [Path(name).resolve() for name in found] == [(folder / "a.h5").resolve()]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_comments_blank_lines_and_line_endings(folder, ending, mark):
    content = mark + ending.join(["a.h5", "", "# a.h5", "  # b.h5", "  both.h5  ", "\t", "with # mark.h5"])
    assert listed(folder, content.encode()) == [str(folder / "a.h5"), str(folder / "both.h5"), "with # mark.h5"]


def test_names_in_any_script_and_with_odd_breaks(folder, monkeypatch):
    monkeypatch.setenv("LC_ALL", "C")
    assert listed(folder, "données\u2028é.h5\nx\x0by.h5\n".encode()) == ["données\u2028é.h5", "x\x0by.h5"]


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"# nothing\n"])
def test_an_empty_list(folder, content):
    with pytest.raises(DataError, match=r"^--train-data .*x\.list: the list is empty: write one path a line$"):
        listed(folder, content)


@pytest.mark.parametrize("content", [b"\x89HDF\r\n\x1a\n\0\0", b"a\0b.h5\n", b"\xff\xfe\n"])
def test_a_list_that_is_no_text(folder, content):
    with pytest.raises(DataError, match=r"^--train-data .*: not a text file: give a file with one path a line$"):
        listed(folder, content)


def test_a_data_file_in_the_place_of_its_list(folder):
    with h5py.File(folder / "d.h5", "w") as file:
        file["features"] = [1.0]
    with pytest.raises(DataError, match=r"--val-data .*not a text file"):
        read_list(folder / "d.h5", "--val-data")


def test_a_missing_list_and_a_folder(folder):
    with pytest.raises(DataError, match="--train-data nowhere: No such file or directory: give a file"):
        read_list("nowhere", "--train-data")
    with pytest.raises(DataError, match=r"--train-data .*: Is a directory: give a file"):
        read_list(folder, "--train-data")


def test_lists_in_python(folder):
    (folder / "x.list").write_text("a.h5\n")
    assert file_list(None, "") == []
    assert file_list(folder / "x.list", "") == file_list(str(folder / "x.list"), "") == [str(folder / "a.h5")]
    assert file_list(("a.h5", Path("b.h5")), "") == ["a.h5", "b.h5"]
