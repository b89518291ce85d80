"""From whom a master hears of its workers: from each worker itself, or from a master that stands between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from nnlo.comm.base import Channel, Transport
from nnlo.comm.messages import Header, Kind
from nnlo.comm.tables import Opening, Rows, Table
from nnlo.flat import HEADER_BYTES, Arena
from nnlo.roles.wires import Wires
from nnlo.roles.worker import EXCHANGE
from nnlo.topology import Role, Topology


class Link:
    """A channel to the rank that speaks for `workers` (peer ids), at least one.

    It has room for one message at a time: for the next once each worker's part is settled, or put aside.
    """

    def __init__(self, channel: Channel, wires: Wires, workers: Sequence[int]) -> None:
        self.channel, self.workers = channel, list(workers)
        self._arena = wires.update(channel.incoming)
        self._sums = self._arena.sums.numpy()
        self._unsettled: set[int] = set()
        self.nbytes = 0  # of the last message

    def take(self) -> dict[int, Header]:
        """What has arrived of each worker. Raises PeerLost."""
        header = self.channel.take()
        headers = self.read(header)
        self._unsettled, self.nbytes = set(headers), header.nbytes
        return headers

    def read(self, header: Header) -> dict[int, Header]:
        return {self.workers[0]: header}

    def settle(self, worker: int) -> None:
        """Its part is not looked at any more."""
        if worker in self._unsettled:
            self._unsettled.remove(worker)
            if not self._unsettled and self.workers:
                self.channel.post()

    def put_aside(self) -> None:
        """Make room for what others may say while this message waits for them."""

    def leave(self, worker: int) -> None:
        """It is gone."""
        self.workers.remove(worker)
        self.settle(worker)

    def arena(self, worker: int) -> Arena:
        """Where its update lies, alone or in one vector with others'."""
        return self._arena

    def sums(self, worker: int) -> list[float]:
        """Of loss and metrics behind its update."""
        found: list[float] = self._sums.tolist()
        return found

    def opening(self, headers: Mapping[int, Header], flags: int) -> Opening:
        """What opens the message that tells workers these; `flags` are for a master between."""
        return headers[self.workers[0]]

    def header_memory(self, transport: Transport) -> Tensor:
        """For a message without weights."""
        return transport.storage(HEADER_BYTES)


class Relayed(Link):
    """A link to a master. `_aside`: copies of messages that wait for other workers behind the same master."""

    def __init__(self, channel: Channel, wires: Wires, workers: Sequence[int], rows: Rows) -> None:
        super().__init__(channel, wires, workers)
        self._places, self._rows, self._wires = {worker: place for place, worker in enumerate(workers)}, rows, wires
        self._aside: dict[int, Arena] = {}

    def read(self, header: Header) -> dict[int, Header]:
        found = zip(self._places, self._rows.read(self._arena), strict=True)
        return {worker: one for worker, one in found if one is not None and worker in self.workers}

    def settle(self, worker: int) -> None:
        if worker in self._unsettled:
            super().settle(worker)
        else:
            self._aside.pop(worker, None)

    def put_aside(self) -> None:
        silent = self._unsettled | self._aside.keys()
        if self._unsettled and silent != set(self.workers):
            copy = self._wires.update(self._arena.storage.clone())
            self._aside |= dict.fromkeys(self._unsettled, copy)
            self._unsettled = set()
            self.channel.post()

    def arena(self, worker: int) -> Arena:
        return self._aside.get(worker, self._arena)

    def sums(self, worker: int) -> list[float]:
        found: list[float] = self._rows.sums_of(self.arena(worker), self._places[worker]).tolist()
        return found

    def opening(self, headers: Mapping[int, Header], flags: int) -> Opening:
        body = max(header.nbytes for header in headers.values())
        nbytes = body if body > HEADER_BYTES else self._rows.end
        rows = tuple(headers.get(worker) for worker in self._places)
        return Table(Header(Kind.REPLY, flags, nbytes=nbytes), rows, self._rows)

    def header_memory(self, transport: Transport) -> Tensor:
        return transport.storage(self._rows.end)


def links_of(transport: Transport, tree: Topology, wires: Wires) -> dict[int, Link]:
    """Each worker's link, by its peer id, in the order of the workers' numbers; `wires` are those of the links."""
    links: dict[int, Link] = {}
    for child in tree.nodes[0].children:
        node = tree.nodes[child]
        channel = transport.channel(transport.peers[child], EXCHANGE, wires.update_bytes)
        if node.role is Role.WORKER or wires.rows is None:
            links[transport.peers[child]] = Link(channel, wires, [transport.peers[child]])
            continue
        workers = [transport.peers[worker] for worker in node.children]
        links |= dict.fromkeys(workers, Relayed(channel, wires, workers, wires.rows))
    return links
