"""HDF5 datasets as people store them: compressed, chunked oddly, by filters that HDF5 itself lacks."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from nnlo import Algo, H5Data
from nnlo.comm.virtual import VirtualWorld
from nnlo.data.feed import SampleFeed
from nnlo.data.index import Index
from nnlo.data.shuffle import Shuffle
from nnlo.errors import DataError
from tests.jobs import labelled, train_here

LAYOUTS = [
    {"compression": "gzip", "compression_opts": 9},
    {"compression": "lzf"},
    {"compression": "gzip", "shuffle": True, "fletcher32": True},
    {"chunks": (1, 1)},
    {"chunks": (7, 3), "compression": "lzf"},
    {"chunks": (97, 5), "maxshape": (None, None)},
    {"scaleoffset": 4},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_any_layout_is_read(tmp_path, layout):
    x, y = labelled(97, inputs=5)
    x = x.round(2)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("features", data=x, **layout)
        file.create_dataset("labels", data=y, chunks=(13,), compression="gzip")
    data, path = H5Data(6), str(tmp_path / "x.h5")
    feed = SampleFeed(data, Index.of([path], [data.count_file(path)]), Shuffle(97, 6, 11, 0), torch.float32)
    batches = [feed.read(0, k) for k in range(17)]
    wanted = np.concatenate([x, y[:, None]], 1)
    found = np.concatenate([np.concatenate([b.x, b.y[:, None]], 1) for b in batches])
    assert np.allclose(sorted(found.tolist()), sorted(wanted.tolist()), atol=1e-4)


def test_a_chunk_is_unpacked_once_for_neighbours(tmp_path):
    """What is read next to the last rows comes from the chunk that HDF5 keeps: here its place in the file is spoilt."""
    path, x = tmp_path / "x.h5", np.arange(40.0).reshape(20, 2)
    with h5py.File(path, "w") as file:
        made = file.create_dataset("features", data=x, chunks=(20, 2), compression="gzip")
        file["labels"] = np.arange(20)
        place = made.id.get_chunk_info(0)
    data = H5Data(1)
    assert data.read_rows(str(path), 0, 5)[0].tolist() == x[:5].tolist()
    content = bytearray(path.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size] = b"\xff" * place.size
    with open(path, "r+b") as file:
        file.write(content)
    target = np.zeros((5, 2))
    data.fill_rows(str(path), 5, 10, target, np.zeros(5))
    assert target.tolist() == x[5:10].tolist()
    data._close(str(path))
    with pytest.raises(DataError, match="cannot be read"):
        H5Data(1).read_rows(str(path), 0, 5)


def unknown_filter(path, code):
    """A dataset whose filter no library has; HDF5 passes it over in writing, since it is said to be optional."""
    with h5py.File(path, "w") as file:
        made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        made.set_chunk((4, 8))
        made.set_filter(code, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((20, 8))
        h5py.h5d.create(file.id, b"features", h5py.h5t.NATIVE_FLOAT, space, dcpl=made)
        file["labels"] = np.zeros(20, int)
    return str(path)


@pytest.mark.parametrize(
    ("installed", "fix"), [(False, "pip install 'nnlo[hdf5plugin]'"), (True, "name the folder of its plugin in")]
)
def test_a_filter_that_is_not_here(tmp_path, monkeypatch, installed, fix):
    path = unknown_filter(tmp_path / "x.h5", 305)
    if installed:
        pytest.importorskip("hdf5plugin")
    else:
        monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    with pytest.raises(DataError) as caught:
        train_here(VirtualWorld(3), H5Data(4), Algo("sgd"), lambda: torch.nn.Linear(8, 4), train_list=[path])
    assert str(caught.value).startswith(f"{path}: 'features' needs the HDF5 filter 305 ()")
    assert fix in str(caught.value) and caught.value.agreed and "\n" not in str(caught.value)


PROGRAM = """
import sys, h5py, numpy as np
from nnlo import H5Data
loaded = [name for name in sys.modules if name.startswith("hdf5plugin")]
x, y = H5Data(2).load_data(sys.argv[1])
assert not loaded and "hdf5plugin" in sys.modules and (x == np.arange(40.0).reshape(20, 2)).all(), loaded
"""


def test_filters_of_hdf5plugin_are_loaded_on_first_need(tmp_path):
    hdf5plugin = pytest.importorskip("hdf5plugin")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("features", data=np.arange(40.0).reshape(20, 2), **hdf5plugin.Zstd())
        file.create_dataset("labels", data=np.arange(20), **hdf5plugin.Blosc())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "x.h5"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
