"""The 64-byte header that opens every message."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from nnlo.errors import ProtocolError
from nnlo.flat import HEADER_BYTES

FORMAT = struct.Struct("<HHIqqqqqqq")
MAGIC = 0x4E01  # "N" and the version of this format
assert FORMAT.size == HEADER_BYTES


class Kind(IntEnum):
    HELLO = 1  # worker: I am ready, send me weights
    UPDATE = 2  # worker: an update, computed from `version`
    REPLY = 3  # master: the centre's answer, at `version`, perhaps with a range of batches
    STOP = 4  # master: no more work
    BYE = 5  # worker: I leave
    WEIGHTS = 6  # master: the centre's weights as they are, to start from (again)
    REQUEST = 7  # worker: an update is ready, send me the centre's weights before it
    IDLE = 8  # worker: I have no batch left, send me a range
    REPORT = 9  # first worker of a collective: what all of them did in a round
    SNAPSHOT = 10  # the same with the weights: a point is reached, shall we go on?
    STATE = 11  # worker: what I have goes into the checkpoint now, and I wait; also a piece of that
    STOPPED = 12  # worker of a collective: another one is lost, and I wait; lead of a team: forget what was dealt


class Flag:
    """The bits of a header's `flags`, plain numbers: an enumeration takes ten times as long to look at one."""

    NONE = 0
    NON_FINITE = 1  # the update holds inf or nan: the vector is not sent
    EXHAUSTED = 2  # the worker's own generator ended before its range did
    MORE = 4  # the next message to the same master gives answers that are given at the same time as these
    LOST = 8  # the worker does not leave: it is lost, as the master between says in its stead
    SAVE = 16  # take this in, send your state, and wait
    SIGNALLED = 32  # the sender was told by a signal that the job is to leave
    UNREAD = 64  # the update's batch could not be read: there is no vector
    ALL = NON_FINITE | EXHAUSTED | MORE | LOST | SAVE | SIGNALLED | UNREAD


# Looked up for every message: far quicker than calling the enumeration.
KINDS = {int(kind): kind for kind in Kind}


@dataclass(slots=True)
class Header:
    """What a message says about itself. None is changed once it is made; a frozen one takes eight times as long.

    `version` is the centre's step that the sender's weights come from (worker) or that this reply
    holds (master); `samples` stand behind the update, or are the master's clock in a reply; `nbytes` is
    the whole message. A range of batches (`epoch`, `first`, `count`) is what an update covers or what a
    reply deals out; `busy_us` is the time in microseconds that the sender computed for it.
    """

    kind: Kind
    flags: int = Flag.NONE
    version: int = 0
    samples: int = 0
    nbytes: int = HEADER_BYTES
    epoch: int = 0
    first: int = 0
    count: int = 0
    busy_us: int = 0

    def write(self, memory: memoryview) -> None:
        FORMAT.pack_into(
            memory, 0, MAGIC, self.kind, self.flags, self.version, self.samples,
            self.nbytes, self.epoch, self.first, self.count, self.busy_us,
        )  # fmt: skip

    @classmethod
    def read(cls, memory: memoryview) -> Header:
        magic, kind, flags, *numbers = FORMAT.unpack_from(memory, 0)
        if magic != MAGIC:
            raise ProtocolError(f"a message opens with {magic:#x}, not {MAGIC:#x}: do all ranks run the same nnlo?")
        if kind not in KINDS or flags > Flag.ALL:
            raise ProtocolError(f"a message that this nnlo does not know ({kind}, {flags}): update it on all ranks")
        return cls(KINDS[kind], flags, *numbers)
