"""From whom a master hears of its workers: from each worker itself, or from a master that stands between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from nnlo.comm.base import Channel, Transport
from nnlo.comm.messages import Header, Kind
from nnlo.comm.tables import Opening, Rows, Table
from nnlo.flat import HEADER_BYTES
from nnlo.roles.wires import Wires
from nnlo.roles.worker import EXCHANGE
from nnlo.topology import Role, Topology


class Link:
    """A channel to the rank that speaks for `workers` (peer ids), at least one.

    It has room for one message at a time: for the next once each worker's part is settled.
    """

    def __init__(self, channel: Channel, wires: Wires, workers: Sequence[int]) -> None:
        self.channel, self.workers = channel, list(workers)
        self.arena = wires.update(channel.incoming)
        self._unsettled: set[int] = set()

    def take(self) -> dict[int, Header]:
        """What has arrived of each worker. Raises PeerLost."""
        headers = self.read(self.channel.take())
        self._unsettled = set(headers)
        return headers

    def read(self, header: Header) -> dict[int, Header]:
        return {self.workers[0]: header}

    def settle(self, worker: int) -> None:
        """Its part is not looked at any more."""
        self._unsettled.discard(worker)
        if not self._unsettled and self.workers:
            self.channel.post()

    def leave(self, worker: int) -> None:
        """It is gone."""
        self.workers.remove(worker)
        self.settle(worker)

    def sums(self, worker: int) -> list[float]:
        """Of loss and metrics behind its update."""
        found: list[float] = self.arena.sums.tolist()
        return found

    def counted(self, worker: int, header: Header) -> Header:
        """With the bytes of its message, as they are to be counted."""
        return header

    def opening(self, headers: Mapping[int, Header]) -> Opening:
        """What opens the message that tells workers these."""
        return headers[self.workers[0]]

    def header_memory(self, transport: Transport) -> Tensor:
        """For a message without weights."""
        return transport.storage(HEADER_BYTES)


class Relayed(Link):
    """A link to a master; the bytes of a message count for the first worker that it concerns."""

    def __init__(self, channel: Channel, wires: Wires, workers: Sequence[int], rows: Rows) -> None:
        super().__init__(channel, wires, workers)
        self._places, self._rows = {worker: place for place, worker in enumerate(workers)}, rows
        self._nbytes = 0

    def read(self, header: Header) -> dict[int, Header]:
        self._nbytes = header.nbytes
        found = zip(self._places, self._rows.read(self.arena), strict=True)
        return {worker: one for worker, one in found if one is not None and worker in self.workers}

    def sums(self, worker: int) -> list[float]:
        found: list[float] = self._rows.sums_of(self.arena, self._places[worker]).tolist()
        return found

    def counted(self, worker: int, header: Header) -> Header:
        nbytes, self._nbytes = self._nbytes, 0
        return replace(header, nbytes=nbytes)

    def opening(self, headers: Mapping[int, Header]) -> Opening:
        body = max(header.nbytes for header in headers.values())
        nbytes = body if body > HEADER_BYTES else self._rows.end
        return Table(
            Header(Kind.REPLY, nbytes=nbytes), tuple(headers.get(worker) for worker in self._places), self._rows
        )

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
