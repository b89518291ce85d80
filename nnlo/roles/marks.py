"""At which points of a run there is a validation, and where its epochs end."""

from __future__ import annotations

#: Times the expected samples after which a user's generator is taken to have no end.
RUNAWAY = 2
ENDLESS = "generate_data() yields far more than count_data() says: it must return after one epoch"


class Marks:
    """The clock counts samples; each passing of a multiple of `samples` ends one of `epochs`.

    There is also a point after every `every` batches, None for none. Any rank that knows the clock can keep this.
    """

    def __init__(self, samples: int, epochs: int, every: int | None) -> None:
        self._samples, self._epochs, self._every = samples, epochs, every
        self.epochs_closed = self._batches = 0

    def epoch_due(self, clock: int, finished: bool) -> bool:
        """Whether the clock (samples) has passed the end of an epoch; the last ends when all is done."""
        return self.epochs_closed < self._epochs and (finished or self.behind(clock))

    def behind(self, clock: int) -> bool:
        """Whether the end of an epoch other than the last has been passed."""
        return self.epochs_closed + 1 < self._epochs and clock >= (self.epochs_closed + 1) * self._samples

    def due(self, clock: int, batches: int, finished: bool) -> bool:
        inside = self._every is not None and batches // self._every > self._batches // self._every
        return inside or self.epoch_due(clock, finished)

    def take(self, clock: int, batches: int, finished: bool) -> bool:
        """Pass a point that is due; whether an epoch ends there."""
        self._batches = batches
        if not self.epoch_due(clock, finished):
            return False
        self.epochs_closed = self._epochs if finished else self.epochs_closed + 1
        return True

    def pass_all(self, clock: int, batches: int, finished: bool) -> bool:
        """The same, and before the last point all ends of epochs that have been gone over."""
        while finished and self.behind(clock):
            self.take(clock, batches, False)
        return self.take(clock, batches, finished)

    def state_dict(self) -> dict[str, int]:
        return {"epochs_closed": self.epochs_closed, "batches": self._batches}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epochs_closed, self._batches = state["epochs_closed"], state["batches"]

    def endless(self, clock: int) -> bool:
        """Whether there are far more samples than there can be."""
        return clock > RUNAWAY * self._epochs * self._samples
