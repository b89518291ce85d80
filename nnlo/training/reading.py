"""The options of how data are read, split, copied and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnlo.options import Options, option


@dataclass(frozen=True, kw_only=True)
class ReadingArguments(Options):
    """Reading the data"""

    train_split: float | None = option(
        None,
        help="share of the training samples to train on, the rest is for validation; for runs without --val-data",
        metavar="SHARE",
        above=0,
        below=1,
    )
    data_split: str | None = option(
        None,
        help="which worker has which training samples: even (equal parts that stay where they are), label (whole "
        "classes), dirichlet:alpha=A (shares of each class by chance, the smaller A the less alike), or shared "
        "(default shared, and even in modes on a graph)",
        metavar="SPLIT",
    )
    classes: str | None = option(
        None, help="train and validate on these classes alone, for example 0-4 or 0,3,7", metavar="CLASSES"
    )
    preload_data: int = option(
        0,
        help="shuffle blocks, each about 32 MiB or one file, that a thread reads ahead of use",
        metavar="N",
        at_least=0,
    )
    cache_data: Path | None = option(
        None,
        help="copy the listed files into this folder first, once on each host, and read them there; the copies go when "
        "the run ends (default $DATA_CACHE)",
        metavar="DIR",
    )
    copy_command: str | None = option(
        None,
        help='the command that copies a file for --cache-data, run without a shell, as in "cp {} {}": the first {} is '
        "what the list names, a path or an address, the second where it goes (default $DATA_COPY_COMMAND)",
        metavar="COMMAND",
    )
    check_data: bool = option(
        False, help="look through the files of both lists, say what is in them and what is wrong, and leave"
    )

    def recorded(self) -> dict[str, Any]:
        """Without `check_data`, with which nothing is trained that could be recorded."""
        return {name: value for name, value in super().recorded().items() if name != "check_data"}
