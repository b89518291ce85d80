"""Everyone's bytes over the first rank of a group: MPI's collectives know no lost ranks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from nnlo.comm.base import Send
from nnlo.comm.patience import Patience
from nnlo.errors import PeerLost

if TYPE_CHECKING:
    from nnlo.comm.mpi import MpiTransport

#: The tag of these messages; channels have lower ones.
GATHERED = 1 << 14


class Gathered:
    """One rank's part."""

    def __init__(self, transport: MpiTransport) -> None:
        self._transport, self._watch = transport, transport.motion.watch

    def of(self, data: bytes) -> list[bytes]:
        """Everyone's, in the order of the group; the lost are left out. Raises PeerLost where the first rank is."""
        first, *others = self._transport.peers
        if self._transport.id == first:
            told = [data, *(self._received(peer) for peer in others)]
            everything = framed([one for one in told if one is not None])
            self._sent(everything, others)
            return unframed(everything)
        self._sent(data, [first])
        found = self._received(first)
        if found is None:
            raise PeerLost(first)
        return unframed(found)

    def leave(self) -> None:
        """The last that is gathered. The first rank stays until the others have heard it."""
        self.of(b"")
        first, *others = self._transport.peers
        if self._transport.id != first:
            self._sent(b"", [first])
        for peer in others if self._transport.id == first else ():
            self._received(peer)

    def _sent(self, data: bytes, peers: Sequence[int]) -> None:
        sends: list[Send] = []
        for peer in peers:
            for part in (np.array([len(data)]).view(np.uint8), np.frombuffer(data, np.uint8)):
                sends.append(self._transport.start_send(part, peer, GATHERED))
        self.see_out(sends)

    def see_out(self, sends: Sequence[Send]) -> None:
        """Wait until they have left."""
        patience = Patience(self._transport.spin)
        while not all(send.ready for send in sends):
            self._rest(patience)

    def see_all_out(self) -> None:
        """Wait until nothing is under way any more."""
        patience = Patience(self._transport.spin)
        while self._transport.motion.under_way:
            self._rest(patience)

    def _received(self, peer: int) -> bytes | None:
        """The next message of that rank's; None where it is lost."""
        size = np.zeros(1, np.int64)
        if not self._fills(size.view(np.uint8), peer):
            return None
        data = np.zeros(int(size[0]), np.uint8)
        return data.tobytes() if self._fills(data, peer) else None

    def _fills(self, memory: np.ndarray[tuple[int], np.dtype[np.uint8]], peer: int) -> bool:
        patience = Patience(self._transport.spin)
        request = self._transport.comm.Irecv(memory, self._transport.peers.index(peer), GATHERED)
        while True:
            gone = peer in self._watch.lost  # what it sent before has come by then
            try:
                if request.Test():
                    return True
            except self._watch.errors:
                if not (self._watch.look() or gone):
                    raise
            if gone:
                return False
            self._rest(patience)

    def _rest(self, patience: Patience) -> None:
        patience.pause()
        self._transport.motion.progress()
        self._watch.check()


def framed(parts: Sequence[bytes]) -> bytes:
    """Texts as one: their number, their lengths, themselves."""
    return np.array([len(parts), *map(len, parts)], dtype=np.int64).tobytes() + b"".join(parts)


def unframed(text: bytes) -> list[bytes]:
    count = int(np.frombuffer(text, np.int64, 1)[0])
    sizes = np.frombuffer(text, np.int64, count, offset=8)
    ends = 8 * (1 + count) + np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))
    return [text[start:end] for start, end in pairwise(ends.tolist())]
