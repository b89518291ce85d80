"""Bodies for test_training.py: training over real MPI is what the virtual clock says it is."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any

import h5py
import numpy as np
import torch
from mpi4py import MPI
from torch import nn

from nnlo import Algo, Data, H5Data
from nnlo.comm.virtual import VirtualWorld
from nnlo.training.strict_json import dumps
from tests.jobs import Batch, Batches, Rows, Run, cut, labelled, same_bits, train, train_here

X, Y = labelled(205)
VX, VY = labelled(70, seed=1)
FIGURES = ("epoch", "samples", "updates", "refused", "loss", "acc", "val_loss", "val_acc", "staleness", "lr")
FIGURES_OF_RANKS = ("samples", "updates", "refused", "loss", "acc")


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4))


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def workers(comm: MPI.Intracomm) -> int:
    return max(1, comm.size - 1)


def check_equal(real: Run, virtual: Run) -> None:
    assert same_bits(real.state, virtual.state)
    assert len(real.history["epochs"]) == len(virtual.history["epochs"])
    for mine, theirs in zip(real.history["epochs"], virtual.history["epochs"], strict=True):
        for name in FIGURES:
            assert mine[name] == theirs[name], (name, mine[name], theirs[name])
        assert mine["ranks"].keys() == theirs["ranks"].keys()
        for rank in mine["ranks"]:
            for name in FIGURES_OF_RANKS:
                assert mine["ranks"][rank][name] == theirs["ranks"][rank][name], (rank, name)
    assert real.delays == virtual.delays


def equals_virtual(comm: MPI.Intracomm, data: Data, **options: Any) -> None:
    def both(where: Any) -> Run | None:
        algo = Algo("momentum", lr=0.05, **options)
        return train(where, data, algo, network, epochs=3, seed=4, val=Rows(VX, VY, 32))

    run = both(comm)
    assert (run is None) == (comm.rank > 0)
    if run is not None:
        virtual = both(VirtualWorld(1 + workers(comm)))
        assert virtual is not None
        check_equal(run, virtual)


def body_synchronous_training_equals_the_virtual_clocks(comm: MPI.Intracomm) -> None:
    """A ragged last batch, dropout and BatchNorm included."""
    equals_virtual(comm, Rows(X, Y, 10), synchronous=True)


def body_synchronous_training_with_several_batches_an_update(comm: MPI.Intracomm) -> None:
    equals_virtual(comm, Rows(X, Y, 10), synchronous=True, sync_every=3, local_lr=0.01)


def body_synchronous_training_on_a_generator(comm: MPI.Intracomm) -> None:
    equals_virtual(comm, Batches(cut(X, Y, [16] * 12 + [13])), synchronous=True)


def body_asynchronous_training_with_one_worker_equals_the_virtual_clocks(comm: MPI.Intracomm) -> None:
    pair = comm.Split(0 if comm.rank < 2 else MPI.UNDEFINED)
    if pair != MPI.COMM_NULL:
        equals_virtual(pair, Rows(X, Y, 10))
        equals_virtual(pair, Rows(X, Y, 10), sync_every=4, local_lr=0.05)
        pair.Free()


def normalised() -> nn.Module:
    torch.manual_seed(9)
    return nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 4)).double()


def one_process(steps: list[list[Batch]]) -> nn.Module:
    """A step takes the mean gradient of its batches, and the mean of the statistics that each alone would leave."""
    module = normalised()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, foreach=False)
    for step in steps:
        samples = sum(len(y) for _, y in step)
        before = [module[1].running_mean.clone(), module[1].running_var.clone()]
        after = [torch.zeros_like(value) for value in before]
        optimizer.zero_grad()
        for x, y in step:
            module[1].running_mean, module[1].running_var = before[0].clone(), before[1].clone()
            loss = nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y))
            (loss * (len(y) / samples)).backward()
            for total, value in zip(after, (module[1].running_mean, module[1].running_var), strict=True):
                total += value * (len(y) / samples)
        module[1].running_mean, module[1].running_var = after
        optimizer.step()
    return module


def body_batch_norm_validates_as_in_one_process(comm: MPI.Intracomm) -> None:
    """Exactly with one worker; with more the statistics are the mean of the workers'."""
    m = workers(comm)
    x, y, vx = X.astype("float64"), Y, VX.astype("float64")
    sizes = [6 + 3 * k % 7 for k in range(4 * m)]
    batches = cut(x, y, sizes)
    algo = Algo("sgd", lr=0.1, synchronous=True, fused=False)
    run = train(comm, Batches(batches), algo, normalised, val=Rows(vx, VY, 70))
    if run is None:
        return
    module = one_process([batches[k : k + m] for k in range(0, len(batches), m)])
    for name, value in module.state_dict().items():
        if name == "1.num_batches_tracked":
            assert run.state[name].item() == 4
        elif m == 1:
            assert torch.equal(run.state[name], value), name
        else:
            torch.testing.assert_close(run.state[name], value, rtol=1e-11, atol=1e-13)
    module.eval()
    with torch.no_grad():
        expected = nn.functional.cross_entropy(module(torch.from_numpy(vx)), torch.from_numpy(VY)).item()
    assert abs(run.last["val_loss"] - expected) <= (0.0 if m == 1 else 1e-11)


class Uneven(Data):
    """Worker i has a generator of its own, with 3 + 4 i batches of unlike sizes."""

    shards_itself = True

    def generate_data(self) -> Iterator[Batch]:
        rng = np.random.default_rng(self.worker)
        for _ in range(3 + 4 * self.worker):
            rows = rng.integers(0, len(Y), rng.integers(1, 9))
            yield X[rows], Y[rows]


def body_uneven_batches_never_hang(comm: MPI.Intracomm) -> None:
    m = workers(comm)
    for options in ({}, {"synchronous": True}, {"sync_every": 4}, {"synchronous": True, "sync_every": 2}):
        run = train(comm, Uneven(4), Algo("sgd", lr=0.01, **options), plain, epochs=2)
        if run is not None:
            expected = sum(sum(len(y) for _, y in one.generate_data()) for one in shares(m))
            check_samples(run, expected, 2, exactly="synchronous" in options)


def check_samples(run: Run, expected: int, epochs: int, exactly: bool) -> None:
    """Asynchronous workers run on into the next epoch, so that its first samples may come before this one's last."""
    seen = [entry["samples"] for entry in run.history["epochs"]]
    ends = [expected * (1 + epoch) for epoch in range(epochs)]
    assert seen[-1] == ends[-1] and len(seen) == epochs
    assert all(clock == end if exactly else clock >= end for clock, end in zip(seen, ends, strict=True)), seen


def shares(m: int) -> list[Uneven]:
    made = [Uneven(4) for _ in range(m)]
    for worker, data in enumerate(made):
        data.worker = worker
    return made


def body_fewer_batches_than_workers_never_hang(comm: MPI.Intracomm) -> None:
    for options in ({}, {"synchronous": True}, {"sync_every": 5}):
        for files in (["0:7"], ["0:2", "2:7"]):
            run = train(comm, Rows(X, Y, 5), Algo("sgd", lr=0.01, **options), plain, epochs=3, train_list=files)
            if run is not None:
                check_samples(run, 7, 3, exactly="synchronous" in options)


def body_asynchronous_training_learns(comm: MPI.Intracomm) -> None:
    run = train(comm, Rows(X, Y, 5), Algo("sgd", lr=0.03), network, epochs=6, val=Rows(X, Y, 50))
    if run is not None:
        assert run.last["samples"] == 6 * len(Y)
        assert sum(run.last["staleness"]["histogram"]) == run.last["updates"] == 41
        # A rank that is not scheduled for a while falls behind by any number of steps: no more than all before its own.
        assert run.last["staleness"]["max"] < 6 * 41
        assert run.last["val_loss"] < run.history["epochs"][0]["val_loss"] < 1.5


NUMBER = (int, float)
HISTORY: dict[str, Any] = {
    "nnlo": str, "model": str, "arguments": dict, "versions": dict, "seed": int, "ranks": int, "hosts": list,
    "parameters": int, "train_samples": int, "val_samples": int, "started": str, "seconds": NUMBER, "outcome": str,
    "epochs": list, "validations": list,
}  # fmt: skip
EPOCH: dict[str, Any] = {
    "epoch": int, "seconds": NUMBER, "samples": int, "updates": int, "refused": int, "loss": NUMBER, "acc": NUMBER,
    "val_loss": NUMBER, "val_acc": NUMBER, "staleness": dict, "bytes_up": int, "bytes_down": int,
    "samples_per_second": NUMBER, "lr": NUMBER, "ranks": dict,
}  # fmt: skip
RANK: dict[str, Any] = {
    "samples": int, "updates": int, "loss": NUMBER, "acc": NUMBER, "busy_seconds": NUMBER, "samples_per_second": NUMBER,
}  # fmt: skip
IDLE_RANK = RANK | {"loss": NoneType, "acc": NoneType}
"""A rank that others left no batch of an epoch: means over nothing are null."""
VALIDATION: dict[str, Any] = {
    "samples": int, "epoch": NUMBER, "seconds": NUMBER, "val_loss": NUMBER, "val_acc": NUMBER,
}  # fmt: skip


def check_schema(found: dict[str, Any], schema: dict[str, Any]) -> None:
    for name, kind in schema.items():
        assert isinstance(found[name], kind), (name, found.get(name))


def body_history_has_its_schema(comm: MPI.Intracomm) -> None:
    run = train(comm, Rows(X, Y, 10), Algo("sgd", lr=0.1, validate_every=8), network, epochs=2, val=Rows(VX, VY, 32))
    if run is None:
        return
    m, history = workers(comm), json.loads(dumps(run.history))
    check_schema(history, HISTORY)
    assert history["ranks"] == len(history["hosts"]) == 1 + m
    assert (history["train_samples"], history["val_samples"], history["outcome"]) == (205, 70, "done")
    assert history["parameters"] == sum(p.numel() for p in network().parameters())
    assert {"python", "torch", "numpy", "h5py"} <= history["versions"].keys()
    assert (comm.size == 1) or "MPI" in history["versions"]["mpi"].upper()
    seconds = 0.0
    for entry in history["epochs"]:
        check_schema(entry, EPOCH)
        assert set(entry["ranks"]) <= {str(rank) for rank in range(1, 1 + m)}
        for rank in entry["ranks"].values():
            check_schema(rank, RANK if rank["samples"] else IDLE_RANK)
        assert entry["bytes_up"] > 4 * history["parameters"] * entry["updates"]
        assert seconds < entry["seconds"] <= history["seconds"]
        seconds = entry["seconds"]
    for point in history["validations"]:
        check_schema(point, VALIDATION)
    assert {2.0} < {point["epoch"] for point in history["validations"]}
    assert len(history["validations"]) >= 5


def body_training_on_copies_and_a_split_is_the_same(comm: MPI.Intracomm) -> None:
    made = tempfile.TemporaryDirectory() if comm.rank == 0 else None
    folder = Path(comm.bcast(made and made.name))
    if made:
        with h5py.File(folder / "x.h5", "w") as file:
            file["features"], file["labels"] = X, Y
    comm.Barrier()
    plain, copied = (
        train(
            comm, H5Data(10, preloading=n, cache=cache), Algo("sgd", lr=0.1, synchronous=True), network, epochs=2,
            train_list=[str(folder / "x.h5")], train_split=0.7, shuffle_buffer=30,
        )
        for n, cache in ((0, None), (2, folder / "cached"))
    )  # fmt: skip
    if plain is not None and copied is not None:
        assert same_bits(plain.state, copied.state) and plain.last["val_loss"] == copied.last["val_loss"]
        assert not list((folder / "cached").iterdir())
    if made:
        made.cleanup()


def body_another_seed_gives_other_weights(comm: MPI.Intracomm) -> None:
    runs = [train(comm, Rows(X, Y, 10), Algo("sgd", synchronous=True), network, seed=seed) for seed in (1, 1, 2)]
    states = [run.state for run in runs if run is not None]
    if states:
        assert same_bits(states[0], states[1]) and not same_bits(states[0], states[2])


def body_a_virtual_world_runs_on_every_rank_by_itself(comm: MPI.Intracomm) -> None:
    run = train_here(VirtualWorld(4), Rows(X, Y, 10), Algo("sgd"), network)
    sums = comm.allgather(run.losses)
    assert all(losses == sums[0] for losses in sums)
