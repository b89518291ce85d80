"""How rank 0 has the next round of a collective be a point of the run, so that it can say what is to become of it."""

from __future__ import annotations

from nnlo.comm.base import Channel, Transport
from nnlo.comm.messages import Header, Kind
from nnlo.flat import HEADER_BYTES
from nnlo.roles.reports import NOTICES


class Notices:
    """To the first worker; one at a time is enough."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._channel: Channel | None = None
        self._sent = False

    def open(self, first: int) -> None:
        """That worker is the first one from now on."""
        self._sent = False
        if self._channel is None or self._channel.peer != first:
            self._channel = self._transport.channel(first, NOTICES, HEADER_BYTES)

    def send(self) -> None:
        if self._channel is not None and not self._sent:
            self._channel.send(Header(Kind.STATE), self._transport.storage(HEADER_BYTES))
            self._sent = True

    def heard(self) -> None:
        """A point of the run is there."""
        self._sent = False
