"""Hooks into a training, under the names that Keras gives them, run on rank 0."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from nnlo.errors import LauncherLost, NnloError, OptionsError, PeerLost, Stranded, TrainingError
from nnlo.model.loading import user_code

Logs = dict[str, Any]


class Callback:
    """Base of all callbacks: subclass it and override what you need.

    `manager` is set before `check` runs. `self.manager.stop_training = True` stops the training at the next
    validation point; `self.manager.model` is the module with the weights just validated during `on_epoch_end` and
    `on_test_end`. An exception in a hook ends the job, and names the callback and the hook.

    Of Keras' hooks these are not there: `on_train_batch_begin` and `on_test_batch_*`, since batches are computed on
    other ranks or on another thread, and `on_predict_*`. `check`, `close`, `state_dict` and `load_state_dict` are not
    Keras'.
    """

    manager: Any = None
    #: Whether on_test_end and on_epoch_end are called once more for what was before, where training goes on from a
    #: checkpoint: for who writes all of a run into a file.
    retells = False

    def check(self, measured: Collection[str]) -> None:
        """Before training: raise OptionsError for what cannot work. `measured` are the figures that entries hold,
        for example loss, acc, val_loss, val_acc."""

    def close(self) -> None:
        """After training, also one that failed, then perhaps without any hook before: give back files and the like."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint is to keep of this callback: plain values and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there, where training is restored from a checkpoint: after `on_train_begin`."""

    def on_train_begin(self, logs: Logs) -> None:
        """Before the first update; `logs` is empty."""

    def on_train_end(self, logs: Logs) -> None:
        """After the last validation; `logs` is the last epoch's history entry."""

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        """The clock has come to `epoch`, counted from 0; `logs` is empty."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """`epoch`, counted from 0, is validated; `logs` is its history entry, with the val_ figures if there are any.

        Updates of the next epoch may have come before it, since validation runs aside.
        """

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """After update number `batch`, counted from 0, was applied to the centre: thousands of times a second.

        `logs`: samples (the clock), epoch (with a fraction), staleness (centre steps), loss and metrics of the update.
        """

    def on_test_begin(self, logs: Logs) -> None:
        """A validation begins; `logs` is empty."""

    def on_test_end(self, logs: Logs) -> None:
        """A validation is done; `logs` is its entry in the history's validations."""


class Callbacks:
    """Several callbacks as one; a hook that none overrides costs next to nothing.

    Raises OptionsError for what is not an instance of Callback.
    """

    def __init__(self, callbacks: Iterable[Callback] = ()) -> None:
        self.callbacks = list(callbacks)
        check_callbacks(self.callbacks)
        self._train_begin = self._overridden("on_train_begin")
        self._train_end = self._overridden("on_train_end")
        self._epoch_begin = self._overridden("on_epoch_begin")
        self._epoch_end = self._overridden("on_epoch_end")
        self._train_batch_end = self._overridden("on_train_batch_end")
        self._test_begin = self._overridden("on_test_begin")
        self._test_end = self._overridden("on_test_end")

    def _overridden(self, hook: str) -> tuple[Callable[..., None], ...]:
        """The hooks of that name, in order, without those that do nothing."""
        empty = getattr(Callback, hook)
        wanted = [one for one in self.callbacks if getattr(getattr(one, hook), "__func__", None) is not empty]
        return tuple(guarded(callback, hook) for callback in wanted)

    @property
    def wants_updates(self) -> bool:
        """Whether any overrides `on_train_batch_end`; otherwise its logs need not be made."""
        return bool(self._train_batch_end)

    def set_manager(self, manager: Any) -> None:
        for callback in self.callbacks:
            callback.manager = manager

    def check(self, measured: Collection[str]) -> None:
        """Raises OptionsError, also for what a user's own callback raises."""
        for callback in self.callbacks:
            with user_code(f"callback {type(callback).__name__}"):
                callback.check(measured)

    def close(self) -> None:
        """Close each of them, also where another one fails to."""
        with ExitStack() as stack:
            for callback in reversed(self.callbacks):
                stack.callback(guarded(callback, "close"))

    def retell(self, history: Mapping[str, Any]) -> None:
        """Call on_test_end and on_epoch_end for all that a history holds, in the order in which it came."""
        points = [(entry["samples"], 0, entry) for entry in history["validations"]]
        points += [(entry["samples"], 1, entry) for entry in history["epochs"]]
        for _, ends, entry in sorted(points, key=lambda point: point[:2]):
            if ends:
                self.on_epoch_end(entry["epoch"] - 1, entry)
            else:
                self.on_test_end(entry)

    def on_train_begin(self, logs: Logs) -> None:
        for hook in self._train_begin:
            hook(logs)

    def on_train_end(self, logs: Logs) -> None:
        for hook in self._train_end:
            hook(logs)

    def on_epoch_begin(self, epoch: int, logs: Logs) -> None:
        for hook in self._epoch_begin:
            hook(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        for hook in self._epoch_end:
            hook(epoch, logs)

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        for hook in self._train_batch_end:
            hook(batch, logs)

    def on_test_begin(self, logs: Logs) -> None:
        for hook in self._test_begin:
            hook(logs)

    def on_test_end(self, logs: Logs) -> None:
        for hook in self._test_end:
            hook(logs)


def guarded(callback: Callback, hook: str) -> Callable[..., None]:
    """The hook; what it raises names it and its callback, and is no wrong use any more."""
    function, name = getattr(callback, hook), type(callback).__name__

    def call(*args: Any) -> None:
        try:
            function(*args)
        except (PeerLost, Stranded, LauncherLost):
            raise
        except NnloError as error:
            raise TrainingError(f"callback {name}, {hook}: {error}") from error
        except Exception as error:
            error.add_note(f"raised by callback {name}, {hook}")
            raise

    return call


def check_callbacks(callbacks: Iterable[object]) -> None:
    """Raises OptionsError for what is not an instance of Callback."""
    for callback in callbacks:
        if isinstance(callback, type) and issubclass(callback, Callback):
            raise OptionsError(f"callbacks: {callback.__name__} is a class: give an instance, {callback.__name__}()")
        if not isinstance(callback, Callback):
            raise OptionsError(
                f"callbacks: {type(callback).__name__} is not a callback: make it a subclass of nnlo.Callback"
            )
