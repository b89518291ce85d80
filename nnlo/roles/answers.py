"""What the workers of a master are owed, and how they get it: weights, what a step left for them, batches."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from nnlo.algos import ServerAlgorithm
from nnlo.comm.base import Transport
from nnlo.comm.messages import Flag, Header, Kind
from nnlo.data.dealing import Dealer, Range
from nnlo.flat import HEADER_BYTES
from nnlo.logs import LOG
from nnlo.roles.centre import Pinned
from nnlo.roles.links import Link
from nnlo.roles.prefetch import DEPTH
from nnlo.roles.stepping import Stepper
from nnlo.roles.wires import Wires
from nnlo.training.record import Recorder

#: What workers ask for, and what they are answered; None for a range of batches alone.
QUESTIONS: dict[Kind, Kind | None] = {Kind.HELLO: Kind.WEIGHTS, Kind.REQUEST: Kind.REPLY, Kind.IDLE: None}


@dataclass(frozen=True, eq=False)
class Answer:
    """What workers are owed: `nbytes` of the centre, or of what a step left for them; the clock that it goes by.

    Those who are owed the same one can be told by one message.
    """

    kind: Kind
    nbytes: int
    clock: int | None = None
    pinned: Pinned | None = None


STOP = Answer(Kind.STOP, HEADER_BYTES)
NOTHING = Range(0, 0, 0)
Outbox: TypeAlias = "dict[tuple[Link, Answer], dict[int, Header]]"


class Answers:
    """`parked` are the workers that wait, each with what it is owed; with it goes a range of batches, if it wants one.

    A worker that has no batch, and is dealt none, waits on. While `saving`, all are told to show what they have.
    """

    def __init__(
        self, transport: Transport, algorithm: ServerAlgorithm, dealer: Dealer, stepper: Stepper, recorder: Recorder,
        links: Mapping[int, Link], wires: Wires,
    ) -> None:  # fmt: skip
        self._transport, self._algorithm, self._dealer = transport, algorithm, dealer
        self._stepper, self._recorder, self._links = stepper, recorder, links
        self._low_water = max(2 * algorithm.sync_every, DEPTH)
        weights_bytes, reply_bytes = wires.told_bytes
        self._range = Answer(Kind.REPLY, HEADER_BYTES)
        self._whole = {kind: Answer(kind, weights_bytes) for kind in (Kind.WEIGHTS, Kind.REPLY)}
        self.move = Answer(Kind.REPLY, reply_bytes)
        self.parked: dict[int, Answer] = {}
        self._clock, self._stopping = 0, False
        self.saving = False
        self.owed: dict[int, Answer] = {}

    def drop(self, peer: int) -> None:
        """A worker is gone."""
        self.owed.pop(peer, None)
        answer = self.parked.pop(peer, None)
        if answer and answer.pinned:
            answer.pinned.owed -= 1

    def answer(self, kind: Kind | None) -> Answer:
        """The centre's weights, as a reply or to start from; None for a range of batches alone."""
        return self._whole[kind] if kind else self._range

    def unmoved(self, header: Header) -> Answer | None:
        """How an update is answered that was not part of a step; None where its sender expects nothing."""
        if self._algorithm.pull_first and header.nbytes > HEADER_BYTES:
            return None
        if header.flags & Flag.UNREAD and not self._algorithm.follows:
            return self.move if self._algorithm.reply_is_move else self.answer(None)
        fresh = self._algorithm.reply_is_weights or (header.samples and not self._algorithm.lockstep)
        return self.answer(Kind.WEIGHTS if fresh else None)

    def moved(self, pinned: Pinned | None, clock: int) -> Answer | None:
        """How updates are answered that were part of a step, at which the clock was `clock`; None where not at all."""
        if self._algorithm.pull_first:
            return None
        if self._algorithm.lockstep:
            return replace(self.move, clock=clock, pinned=pinned)
        return replace(self.move, pinned=pinned) if pinned else self.move

    def serve(self, clock: int, stopping: bool, pending: Container[int]) -> None:
        """Answer the parked workers that there is an answer for; those whose update is `pending` are heard too."""
        if not self.parked or (self._algorithm.synchronous and not self.saving and self._silent(pending)):
            return
        self._clock, self._stopping = clock, stopping or self._dealer.finished
        outbox: Outbox = {}
        moved = True
        while moved:  # in lockstep, one who has no batch is answered once another one has
            moved = False
            for peer in sorted(self.parked):
                if self._reply(peer, self.parked[peer], outbox):
                    del self.parked[peer]
                    moved = self._algorithm.lockstep
        last = dict(outbox.keys())
        for (link, answer), headers in outbox.items():
            self._send(link, answer, headers, Flag.NONE if answer is last[link] else Flag.MORE)

    def _silent(self, pending: Container[int]) -> bool:
        """Whether a worker is about to ask for its share of an epoch, which goes by rank and not by who asks first."""
        return self._algorithm.pull_first and any(
            peer not in self.parked and peer not in pending and not self._dealer.outstanding(peer)
            for peer in self._links
        )

    def _reply(self, peer: int, answer: Answer, outbox: Outbox) -> bool:
        """Put what is owed and perhaps a range, or stop, into `outbox`; False where the worker has to wait."""
        if self.saving:
            self._show(peer, answer, outbox)
            return True
        if self._stopping:
            if answer.pinned:
                answer.pinned.owed -= 1
            outbox.setdefault((self._links[peer], STOP), {})[peer] = Header(Kind.STOP)
            return True
        outstanding = self._dealer.outstanding(peer)
        dealt = self._dealer.grant(peer) if outstanding < self._low_water + self._dealer.ahead(peer) else None
        if not outstanding and dealt is None and not (self._algorithm.lockstep and self._dealer.busy):
            return False
        if dealt:
            LOG.debug("worker %d: epoch %d, batches %d to %d", peer, dealt.epoch + 1, dealt.first, dealt.stop - 1)
        outbox.setdefault((self._links[peer], answer), {})[peer] = self._header(answer, dealt or NOTHING)
        return True

    def _show(self, peer: int, answer: Answer, outbox: Outbox) -> None:
        """Have a worker show what it has. One that waits for batches is owed the centre as it is when it gets some."""
        if self._algorithm.catches_up and not answer.pinned and not self._dealer.outstanding(peer):
            self.owed[peer], answer = answer, self._range
        header = replace(self._header(answer, NOTHING), flags=Flag.SAVE)
        outbox.setdefault((self._links[peer], answer), {})[peer] = header

    def shown(self, peer: int) -> None:
        """It has, and waits for what it is owed."""
        self.parked[peer] = self.owed.pop(peer, self._range)

    def _header(self, answer: Answer, dealt: Range) -> Header:
        clock = self._clock if answer.clock is None else answer.clock
        return Header(
            answer.kind, version=self._stepper.version, samples=clock, nbytes=answer.nbytes,
            epoch=dealt.epoch, first=dealt.first, count=dealt.count,
        )  # fmt: skip

    def _send(self, link: Link, answer: Answer, headers: Mapping[int, Header], flags: int) -> None:
        """One message with one answer to workers behind one link."""
        opening = link.opening(headers, flags)
        if answer.pinned:
            answer.pinned.owed -= len(headers) - 1
            self._stepper.send(link.channel, opening, answer.pinned)
        elif answer.nbytes > HEADER_BYTES:
            self._stepper.send_centre(link.channel, opening, headers, answer.kind is Kind.WEIGHTS)
        else:
            memory = link.header_memory(self._transport)
            opening.write(memory.numpy().data)
            link.channel.send_written(memory, opening.nbytes)
        if answer is not STOP:
            self._recorder.replied(next(iter(headers)), opening.nbytes)
