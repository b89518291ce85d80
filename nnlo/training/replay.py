"""What decided an asynchronous run, in a file: the order in which the master took its workers' messages.

Everything else follows from that order: versions read, ranges dealt, rates and validations. The file is a line of JSON
about the job, and then two bytes for each message: the rank that it came from. NOW stands where a checkpoint was begun,
LOST before a rank that was found dead, and END before the SHA-256 of the last weights.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nnlo.errors import DataError, OptionsError
from nnlo.options import Options, option
from nnlo.training.atomic import writing

KEY, FORMAT = "nnlo record", 1
NOW, LOST, END = 0, 65535, 65534
#: The length of a digest in codes.
DIGEST_CODES = 16
#: Entries that are written together; what a killed job had not written is missing.
TOGETHER = 256


@dataclass(frozen=True, kw_only=True)
class ReplayArguments(Options):
    """Record and replay"""

    record: Path | None = option(
        None, help="write the order in which the master heard its workers to this file, for --replay", metavar="FILE"
    )
    replay: Path | None = option(
        None, help="repeat the run of which this is the record, bit for bit, with the same options", metavar="FILE"
    )

    def check(self) -> None:
        if self.record is not None and self.replay is not None:
            raise OptionsError("--record and --replay are for two runs: drop one of them")


class Record:
    """A record that is being written. Raises DataError."""

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path, self._codes = path, array("H")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = path.open("wb")
            self._file.write(json.dumps({KEY: FORMAT, **about}).encode() + b"\n")
            self._file.flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def add(self, *codes: int) -> None:
        self._codes.extend(codes)
        if len(self._codes) >= TOGETHER:
            self._flush()

    def end(self, digest: bytes) -> None:
        """The run is over, and came to weights of this digest."""
        self.add(END)
        self._flush()
        with writing(self._path):
            self._file.write(digest)

    def _flush(self) -> None:
        with writing(self._path):
            self._file.write(self._codes.tobytes())
            self._file.flush()
        self._codes = array("H")


@dataclass(frozen=True)
class Recorded:
    """A record that was read: about the job, the codes, and the digest of the last weights where the run got there."""

    about: dict[str, Any]
    codes: array[int]
    digest: bytes | None


def read_record(path: Path) -> Recorded:
    """Raises DataError."""
    try:
        head, _, body = path.read_bytes().partition(b"\n")
        about = json.loads(head)
        if about.pop(KEY) != FORMAT:
            raise ValueError
    except OSError as error:
        raise DataError(f"--replay {path}: cannot read ({error.strerror}): name what --record has written") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(f"--replay {path}: not a record: name what --record has written") from None
    codes = array("H", body[: len(body) // 2 * 2])
    if len(codes) > DIGEST_CODES and codes[-DIGEST_CODES - 1] == END:
        return Recorded(about, codes[: -DIGEST_CODES - 1], body[-2 * DIGEST_CODES :])
    return Recorded(about, codes, None)
