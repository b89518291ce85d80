"""A user's program that uses everything in one run, over real MPI: every scenario goes well on any number of ranks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mpi.launch import Result, available, launch

PROGRAM = Path(__file__).with_name("scripts") / "by_the_book.py"
FORGOTTEN = "it made an MPIManager and ended without train(): call train() (or close()) on every rank"


def scenarios() -> list[str]:
    """What the program goes through, read without running it."""
    assigned = (node for node in ast.parse(PROGRAM.read_text()).body if isinstance(node, ast.Assign))
    (names,) = (node.value.elts for node in assigned if "SCENARIOS" in map(ast.unparse, node.targets))
    return [ast.unparse(name).replace("_", " ") for name in names]


def followed(np: int, mpi: str, folder: Path, *flags: str) -> Result:
    """The run, in which each scenario said that it went well."""
    if mpi not in available():
        pytest.skip(f"{mpi} is not installed: `make test` does it")
    result = launch(np, [str(PROGRAM), str(folder), *flags], mpi=mpi, timeout=90)
    told = [line.partition(":")[0] for line in result.stdout.splitlines()]
    assert told == [f"ok {name}" for name in scenarios()], result
    return result


@pytest.mark.parametrize(("np", "mpi"), [(1, "mpich"), (3, "openmpi")])
def test_all_that_is_described_works(np: int, mpi: str, tmp_path: Path) -> None:
    result = followed(np, mpi, tmp_path)
    assert result.code == 0, result


def test_a_rank_that_leaves_without_training_ends_the_job(tmp_path: Path) -> None:
    result = followed(3, "mpich", tmp_path, "--forget")
    assert result.code == 1, result
    assert result.stderr.count(f"nnlo: rank 2: {FORGOTTEN}") == 1, result
