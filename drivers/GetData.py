"""GetData: put a ready-made data set where training finds it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import nnlo
from nnlo.cli import Command, build, run
from nnlo.data.prepare import Prepared, data_home, prepare, preparers, ready
from nnlo.errors import OptionsError
from nnlo.model import load_model
from nnlo.options import Options, option

PROG = "GetData"


@dataclass(frozen=True, kw_only=True)
class DataSet(Options):
    """Data set."""

    name: str | None = option(None, help=f"the data set: {' or '.join(preparers)}", positional=True)
    dest: Path | None = option(
        None, metavar="DIR", help="folder to make it in (default $NNLO_DATA, else ~/.cache/nnlo)"
    )
    source: Path | None = option(
        None, metavar="DIR", help="the downloaded files: their folder, or an archive; without it they are fetched"
    )
    train_pieces: int | None = option(None, metavar="N", help="files to cut the training samples into", at_least=1)
    test_pieces: int | None = option(None, metavar="N", help="files to cut the test samples into", at_least=1)
    overwrite: bool = option(False, help="make it again where it is there already")


def command() -> Command:
    return Command(PROG, "Make a data set as HDF5 pieces and file lists.", [DataSet], version=nnlo.__version__)


def story(done: Prepared) -> str:
    """What was made and where, for people."""
    train, test = done.pieces
    if done.samples is None:
        what = f"{done.name} is already there, in {train} training and {test} test pieces; --overwrite makes it again"
    else:
        some, others = done.samples
        what = f"{done.name} is ready: {some:,} training samples in {train} pieces, {others:,} test samples in {test}"
    flags = "" if taken_by_itself(done) else f" --train-data {done.train_list} --val-data {done.test_list}"
    train = f"To train on it: mpirun -np 3 TrainingDriver --model {preparers[done.name].model}{flags}"
    return f"{what}\n  {done.train_list}\n  {done.test_list}\n{train}"


def taken_by_itself(done: Prepared) -> bool:
    """Whether TrainingDriver trains on this set where no list is given."""
    here = done.train_list.parent == data_home()
    return here and ready(load_model(preparers[done.name].model).data_sets) == done.name


def get_data(argv: Sequence[str] | None = None) -> None:
    options = build(DataSet, command().parse(argv))
    if options.name is None:
        raise OptionsError(f"name a data set: {' or '.join(f'{PROG} {name}' for name in preparers)}")
    done = prepare(
        options.name,
        options.dest,
        options.source,
        train_pieces=options.train_pieces,
        test_pieces=options.test_pieces,
        overwrite=options.overwrite,
    )
    print(story(done))


def main(argv: Sequence[str] | None = None) -> NoReturn:
    run(PROG, lambda: get_data(argv))


if __name__ == "__main__":
    main()
