"""Which updates are applied: not those that are inf or nan, nor those that come too late."""

from __future__ import annotations

from collections.abc import Mapping

from nnlo.comm.messages import Flag
from nnlo.logs import LOG
from nnlo.roles.stepping import Arrived, Stepper
from nnlo.training.record import Recorder


class Judge:
    """Counts what is refused; `failure` says why, once there were `most_bad` updates in a row that were not finite.

    `rate_flag` names what to lower then.
    """

    def __init__(self, recorder: Recorder, most_bad: int, rate_flag: str) -> None:
        self._recorder, self._most_bad, self._rate_flag = recorder, most_bad, rate_flag
        self._in_a_row = self._bad = 0
        self.failure: str | None = None

    def state_dict(self) -> dict[str, int]:
        return {"in_a_row": self._in_a_row, "bad": self._bad}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._in_a_row, self._bad = state["in_a_row"], state["bad"]

    def accepts(self, one: Arrived, stepper: Stepper) -> bool:
        """Whether this update may be applied."""
        if one.header.flags & Flag.UNREAD:
            self._recorder.skipped(one.peer, one.header.samples)
            return False
        if not one.finite:
            self.refuse(one.peer, one.header.samples)
            return False
        if not one.header.samples:
            return False
        self.good()
        if stepper.accepts(one.lineage):
            return True
        header = one.header
        self._recorder.late(one.peer, header.samples, header.busy_us * 1e-6)
        return False

    def good(self) -> None:
        """An update is as it should be."""
        self._in_a_row = 0

    def refuse(self, peer: int, samples: int) -> None:
        """An update of that rank is inf or nan."""
        self._recorder.refused(peer, samples)
        self._count(peer)

    def drop(self, samples: Mapping[int, int], counts: bool) -> None:
        """The sum of these ranks' updates is inf or nan and not applied; `counts`: none of them is known to be so."""
        for peer, lost in samples.items():
            self._recorder.refused(peer, lost)
        if counts:
            self._count(max(samples))

    def _count(self, peer: int) -> None:
        self._in_a_row += 1
        self._bad += 1
        if self._bad.bit_count() == 1:  # the 1st, 2nd, 4th, 8th ...: many would flood the log
            LOG.warning("an update of rank %d is inf or nan and refused: %d until now", peer, self._bad)
        if self._in_a_row == self._most_bad:
            self.failure = (
                f"{self._in_a_row} updates in a row were inf or nan, the last from rank {peer}: "
                f"lower {self._rate_flag}, or look for such values in the data"
            )
