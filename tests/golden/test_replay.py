"""An asynchronous run that was recorded is repeated bit for bit, whatever the speed of its workers."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from nnlo.comm.costs import Costs, Fault, FaultKind
from nnlo.comm.virtual import VirtualWorld
from nnlo.errors import DataError, OptionsError, TrainingError
from nnlo.training.replay import Record, read_record
from tests.golden.test_preemption import Told
from tests.golden.test_restoring import BATCH, SAMPLES, algo_of, network, same_figures, sgd
from tests.jobs import Rows, Run, labelled, same_bits, train_here

WAYS = {
    "downpour": sgd(),
    "pipeline": sgd(pipeline=True),
    "compressed": sgd(compress="topk:ratio=0.3", compress_down="qsgd"),
    "staleness": sgd(staleness="inverse", max_staleness=2),
    "easgd": {"mode": "easgd", "sync_every": 2},
    "gem": {"mode": "gem"},
    "backup": sgd(synchronous=True, backup_workers=1),
}


def repeatable() -> dict[str, Any]:
    """What a job over ranks trains, too."""
    return {"data": Rows(*labelled(SAMPLES), BATCH), "algo": algo_of(sgd()), "make": network, "epochs": 4, "seed": 5}


def learn(speed: int, options: dict[str, Any], size: int = 4, epochs: int = 2, **more: Any) -> Run:
    """On workers of unlike speeds, which `speed` chooses."""
    rates = [random.Random(100 * speed + rank).uniform(1e-4, 2e-3) for rank in range(size)]
    costs = Costs(compute=lambda rank, samples: rates[rank] * samples, jitter=0.3, offload=1e-4, notice=0.01)
    world = VirtualWorld(size, costs=costs, seed=speed, faults=more.pop("faults", ()))
    data, val = Rows(*labelled(SAMPLES), BATCH), Rows(*labelled(40, seed=1), BATCH)
    return train_here(world, data, algo_of(options), network, epochs=epochs, val=val, seed=5, **more)


@pytest.mark.parametrize("way", WAYS)
def test_it_is_repeated_bit_for_bit(way: str, tmp_path: Path) -> None:
    options, file = WAYS[way], tmp_path / "r"
    plain, recorded = learn(1, options), learn(1, options, record=file)
    assert same_bits(recorded.state, plain.state), "to record it changed it"
    other = learn(2, options)
    assert not same_bits(other.state, plain.state), "nothing was left to chance"
    again = learn(2, options, replay=file)
    assert same_bits(again.state, plain.state) and again.delays == plain.delays
    assert same_figures(again.history, plain.history)


def test_checkpoints_are_begun_where_they_were(tmp_path: Path) -> None:
    kept = {"checkpoint_every": "0.01s", "keep": 99}
    first = learn(1, sgd(), record=tmp_path / "r", checkpoint=tmp_path / "a", **kept)
    again = learn(2, sgd(), replay=tmp_path / "r", checkpoint=tmp_path / "b", **kept)
    assert same_bits(first.state, again.state)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == sorted(p.name for p in (tmp_path / "b").iterdir())


def test_what_follows_a_checkpoint_is_repeated_too(tmp_path: Path) -> None:
    learn(1, sgd(), checkpoint=tmp_path / "a", epochs=1)
    first = learn(3, sgd(), restore=tmp_path / "a", record=tmp_path / "r")
    again = learn(2, sgd(), restore=tmp_path / "a", replay=tmp_path / "r")
    assert same_bits(first.state, again.state)


def test_a_record_is_some_bytes_a_message(tmp_path: Path) -> None:
    run = learn(1, sgd(), record=tmp_path / "r")
    found = read_record(tmp_path / "r")
    assert found.digest is not None and len(found.codes) == len(run.delays) + 2 * 3, "hello, updates and bye"
    assert set(found.codes) == {1, 2, 3}


def test_the_record_of_a_run_that_ended_too_early_is_followed_as_far_as_it_goes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "r"
    first = learn(1, sgd(), record=file)
    whole = file.read_bytes()
    file.write_bytes(whole[: -34 - 20])
    again = learn(2, sgd(), replay=file)
    assert again.delays[:-10] == first.delays[:-10]
    assert "the record ends after" in caplog.text


def test_a_loss_cannot_be_repeated(tmp_path: Path) -> None:
    learn(1, sgd(), record=tmp_path / "r", faults=[Fault(2, 2, FaultKind.DIE)])
    with pytest.raises(TrainingError, match="there a rank was lost, which a replay cannot repeat"):
        learn(2, sgd(), replay=tmp_path / "r")


def test_a_run_that_goes_astray_is_told_of(tmp_path: Path) -> None:
    file = tmp_path / "r"
    learn(1, sgd(), record=file)
    whole = bytearray(file.read_bytes())
    whole[-1] ^= 1
    file.write_bytes(whole)
    with pytest.raises(TrainingError, match="has come to other weights"):
        learn(2, sgd(), replay=file)
    head = bytes(whole).partition(b"\n")[0] + b"\n"
    file.write_bytes(head + bytes([1, 0] * 500))
    with pytest.raises(TrainingError, match="rank 1 was heard there, and"):
        learn(2, sgd(), replay=file)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"size": 3}, "ranks was 4 then and is 3 now"),
        ({"checkpoint": "cp"}, "checkpoints was False then and is True now"),
    ],
)
def test_another_job_is_refused(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    more = {name: tmp_path / value if name == "checkpoint" else value for name, value in more.items()}
    learn(1, sgd(), record=tmp_path / "r")
    with pytest.raises(OptionsError, match=said):
        learn(1, sgd(), replay=tmp_path / "r", **more)


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        learn(1, sgd(), replay=tmp_path / "r")
    for content in (b"", b"{}\n", b"[1]\n", b"\xff\xfe", b'{"nnlo record": 2}\n'):
        (tmp_path / "r").write_bytes(content)
        with pytest.raises(DataError, match="not a record: name what --record has written"):
            learn(1, sgd(), replay=tmp_path / "r")


@pytest.mark.parametrize(("more", "said"), [({"num_masters": 3, "size": 5}, "one master"), ({}, "--hogwild")])
def test_what_cannot_be_recorded(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    options = sgd() if more else sgd(hogwild=True)
    with pytest.raises(OptionsError, match=said):
        learn(1, options, record=tmp_path / "r", **more)


def test_a_job_that_leaves_has_recorded_until_then(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="stopped by SIGUSR1"):
        learn(1, sgd(), record=tmp_path / "r", checkpoint=tmp_path / "cp", callbacks=[Told(100)])
    assert read_record(tmp_path / "r").digest is None and len(read_record(tmp_path / "r").codes) > 10


def test_what_was_not_written_yet_is_written_when_it_is_closed(tmp_path: Path) -> None:
    record = Record(tmp_path / "r", {"ranks": 3})
    record.add(1, 2, 3)
    record.close()
    assert list(read_record(tmp_path / "r").codes) == [1, 2, 3] and read_record(tmp_path / "r").about == {"ranks": 3}
