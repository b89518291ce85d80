"""Callbacks: who is called, in which order, and what is not worth preparing."""

from __future__ import annotations

import pytest

from nnlo.errors import OptionsError
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
