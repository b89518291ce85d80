"""Files that are damaged anyhow: each is read, or refused with one line that names it; nothing else happens."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pytest

from nnlo.data.lists import file_list
from nnlo.drivers.TrainingDriver import command
from nnlo.errors import DataError, OptionsError
from nnlo.optimize.record import Record, read_record
from nnlo.optimize.space_file import space_of_file
from nnlo.optimize.trial import Status, Trial
from tests.jobs import labelled

TRIES = 120


def damaged(whole: bytes, seed: int) -> bytes:
    """Cut somewhere, or with some bits or bytes that are others, or some bytes too many."""
    chance, data = random.Random(seed), bytearray(whole)
    for _ in range(chance.choice((1, 1, 3, 20))):
        place = chance.randrange(len(data))
        kind = chance.randrange(4)
        if kind == 0:
            data = data[: place + 1]
        elif kind == 1:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 2:
            data[place] = chance.randrange(256)
        else:
            data[place:place] = chance.randbytes(chance.randint(1, 40))
    return bytes(data)


def outcomes(path: Path, whole: bytes, read: Callable[[Path], object]) -> Iterator[str]:
    """What becomes of each damaged form of the file."""
    for seed in range(TRIES):
        path.write_bytes(damaged(whole, seed))
        try:
            read(path)
        except (DataError, OptionsError) as error:
            assert str(path) in str(error) and "\n" not in str(error), (seed, str(error))
            yield "refused"
        else:
            yield "read"


TEXTS = {
    "a list": ("# files\na.h5\nb.h5  \n\n../data/c.h5\n", lambda path: file_list(path, "--train-data")),
    "options": (
        "model: mlp\nepochs: 3\nlr: 0.1\nmodel-params: {hidden: 4}\nmetrics: [acc]\n",
        lambda path: command().parse(["--config", str(path)]),
    ),
    "a search space": (
        "lr: {low: 1.0e-4, high: 0.1, log: true}\nhidden: {type: integer, low: 2, high: 70}\noptimizer: [sgd, adam]\n",
        space_of_file,
    ),
}


@pytest.mark.parametrize("what", TEXTS)
def test_texts(what: str, tmp_path: Path) -> None:
    text, read = TEXTS[what]
    found = list(outcomes(tmp_path / "damaged.txt", text.encode(), read))
    assert found.count("read") and found.count("refused"), found


def test_the_record_of_a_search(tmp_path: Path) -> None:
    record = Record.begin(tmp_path, {"seed": 0})
    for number in range(3):
        record.add(Trial(number, {"lr": 0.1}, Status.DONE, figure=0.5, figures=(0.75, 0.5)))
    record.close()
    path = tmp_path / "trials.jsonl"
    found = list(outcomes(path, path.read_bytes(), lambda path: read_record(path.parent)))
    assert found.count("read") and found.count("refused"), found


READER = """
import json, sys
from pathlib import Path
from nnlo import H5Data
from nnlo.errors import DataError, OptionsError
from tests.unit.test_fuzzed import outcomes

def read(path):
    data = H5Data(10)
    rows = data.count_file(str(path))
    data.read_rows(str(path), 0, rows)

path = Path(sys.argv[1])
print(json.dumps(list(outcomes(path, path.read_bytes(), read))))
"""


@pytest.mark.parametrize("options", [{}, {"chunks": (16, 8), "compression": "gzip", "fletcher32": True}])
def test_hdf5_files(options: dict[str, object], tmp_path: Path) -> None:
    """In a process of its own: a library that crashes would take the tests with it."""
    x, y = labelled(60)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("features", data=x, **options)
        file["labels"] = y
    line = [sys.executable, "-c", READER, str(tmp_path / "x.h5")]
    done = subprocess.run(line, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found.count("read") and found.count("refused"), found
