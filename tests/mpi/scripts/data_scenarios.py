"""The scenarios of by_the_book.py on generators and on HDF5 files: which worker trains on what."""

from __future__ import annotations

from typing import Any

import numpy as np
from blobs import FILES, ROWS, ByFiles, InTurn, Loads, OwnShare
from shared import (
    EPOCHS,
    FOLDER,
    TRAIN,
    WORKERS,
    assert_each_sample_once_an_epoch,
    last,
    learned,
    manager_of,
    refused,
    train,
)

from nnlo import Algo, H5Data


def by_files() -> str:
    """A file more than there are workers; fewer are refused, on all ranks."""
    if WORKERS > 1:
        assert "no file" in refused(manager_of(ByFiles(ROWS), train_list=TRAIN[: WORKERS - 1]).train)
    files = TRAIN[: WORKERS + 1]
    history, seen = train(manager_of(ByFiles(ROWS), Algo("sgd", learning_rate=0.1), train_list=files))
    whole = [[number // ROWS for number in worker[::ROWS]] for worker in seen]
    assert sorted(file for worker in whole for file in worker) == sorted([*range(len(files))] * EPOCHS), whole
    assert all(len(set(worker)) * EPOCHS == len(worker) for worker in whole), "a file has one worker"
    return f"files of the workers {[sorted(set(worker)) for worker in whole]}, val_acc {last(history)['val_acc']:.2f}"


def in_turn() -> str:
    algo = Algo("sgd", lr=0.1, momentum=0.5, metrics=("accuracy",))
    manager = manager_of(InTurn(7), algo, train_list=[], val_data=Loads(20))
    history, seen = train(manager)
    assert_each_sample_once_an_epoch(seen)
    for worker, numbers in enumerate(seen):
        assert {number // 7 % WORKERS for number in numbers} == {worker}, "batch k goes to worker k mod num_workers"
    return learned(history)


def shards_itself() -> str:
    history, seen = train(manager_of(OwnShare(ROWS), train_list=[], val_data=Loads(20)))
    assert_each_sample_once_an_epoch(seen)
    for worker, numbers in enumerate(seen):
        assert {number // ROWS % WORKERS for number in numbers} == {worker}
    return learned(history)


def one_hot(labels: Any) -> Any:
    return np.eye(3, dtype=np.float32)[labels]


def h5_files() -> str:
    """A group is two inputs; the labels come through an adaptor; files are copied into a cache and read ahead."""
    data = H5Data(
        7,
        features_name="inputs",
        labels_name=("kind", one_hot),
        preloading=2,
        cache=str(FOLDER / "cache"),
        copy_command=f"sh -c 'cp $0 $1 && echo copied >> {FOLDER}/copies' {{}} {{}}",
    )
    files = str(FOLDER / "train.txt")
    history, seen = train(manager_of(data, train_list=files, val_list=[str(FOLDER / "blobs0.h5")]))
    assert_each_sample_once_an_epoch(seen)
    assert (FOLDER / "copies").read_text().split() == ["copied"] * FILES, "each file once on this host"
    return f"{FILES} files copied, {learned(history)}"
