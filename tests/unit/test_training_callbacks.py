"""Callbacks: who is called, in which order, and what is not worth preparing."""

from __future__ import annotations

import pytest

from nnlo.errors import DataError, OptionsError, TrainingError
from nnlo.training.callbacks import Callback, Callbacks

CALLS = {
    "on_train_begin": ({},),
    "on_epoch_begin": (0, {}),
    "on_train_batch_end": (7, {"loss": 1.0}),
    "on_test_begin": ({},),
    "on_test_end": ({"val_loss": 2.0},),
    "on_epoch_end": (0, {"loss": 1.0}),
    "on_train_end": ({},),
}


class Everything(Callback):
    """Notes every hook."""

    def __init__(self, notes: list) -> None:
        for hook in CALLS:
            setattr(self, hook, lambda *args, hook=hook: notes.append((self, hook, args)))


def test_every_hook_reaches_every_callback_in_order() -> None:
    notes: list = []
    first, second = Everything(notes), Everything(notes)
    callbacks = Callbacks([first, Callback(), second])
    for hook, args in CALLS.items():
        getattr(callbacks, hook)(*args)
    assert notes == [(who, hook, args) for hook, args in CALLS.items() for who in (first, second)]


def test_updates_are_wanted_only_where_the_hook_is_overridden() -> None:
    class Epochs(Callback):
        def on_epoch_end(self, epoch, logs):
            pass

    class Updates(Epochs):
        def on_train_batch_end(self, batch, logs):
            pass

    class Inherits(Updates):
        pass

    assert not Callbacks().wants_updates
    assert not Callbacks([Callback(), Epochs()]).wants_updates
    assert Callbacks([Epochs(), Inherits()]).wants_updates


def test_a_hook_set_on_the_instance_counts() -> None:
    callback = Callback()
    callback.on_train_batch_end = lambda batch, logs: None
    assert Callbacks([callback]).wants_updates


def test_callbacks_know_the_manager_and_may_stop_it() -> None:
    class Manager:
        stop_training = False

    class Stop(Callback):
        def on_epoch_end(self, epoch, logs):
            self.manager.stop_training = True

    manager, callbacks = Manager(), Callbacks([Stop()])
    callbacks.set_manager(manager)
    callbacks.on_epoch_end(0, {})
    assert manager.stop_training


def test_an_exception_is_not_swallowed() -> None:
    class Bad(Callback):
        def on_train_begin(self, logs):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Callbacks([Bad()]).on_train_begin({})


@pytest.mark.parametrize(("wrong", "told"), [(Callback, r"give an instance, Callback\(\)"), (print, "nnlo.Callback")])
def test_what_is_no_callback_is_refused(wrong: object, told: str) -> None:
    with pytest.raises(OptionsError, match=told):
        Callbacks([wrong])


def test_a_hook_that_raises_is_named() -> None:
    class Bad(Callback):
        def on_epoch_end(self, epoch, logs):
            raise KeyError(epoch)

        def on_test_end(self, logs):
            raise DataError("x.csv: cannot write")

    with pytest.raises(KeyError) as caught:
        Callbacks([Bad()]).on_epoch_end(3, {})
    assert caught.value.__notes__ == ["raised by callback Bad, on_epoch_end"]
    with pytest.raises(TrainingError, match=r"^callback Bad, on_test_end: x.csv: cannot write$"):
        Callbacks([Bad()]).on_test_end({})


def test_what_a_check_raises_is_wrong_use() -> None:
    class Bad(Callback):
        def check(self, measured):
            raise ValueError(f"cannot have {measured}")

    class Worse(Callback):
        def check(self, measured):
            raise OptionsError("--flag: wrong")

    with pytest.raises(OptionsError, match=r"^callback Bad: ValueError: cannot have \['loss'\]$"):
        Callbacks([Bad()]).check(["loss"])
    with pytest.raises(OptionsError, match=r"^--flag: wrong$"):
        Callbacks([Worse()]).check(["loss"])


def test_all_are_closed_in_order_though_one_fails() -> None:
    closed: list = []

    class Good(Callback):
        def close(self):
            closed.append(self)

    class Bad(Good):
        def close(self):
            super().close()
            raise LookupError

    callbacks = [Good(), Bad(), Good()]
    with pytest.raises(LookupError) as caught:
        Callbacks(callbacks).close()
    assert closed == callbacks and caught.value.__notes__ == ["raised by callback Bad, close"]
