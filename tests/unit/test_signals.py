"""Signals that tell a job to leave: the first one is noted, a second one has its own effect."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from nnlo.training.signals import WATCHED, Signals

SECONDS = 20
NAMES = {signal.SIGUSR1: "SIGUSR1", signal.SIGTERM: "SIGTERM", signal.SIGINT: "SIGINT"}


def begin(body: Callable[[], object]) -> int:
    """A child that leaves with 0 after `body`, with 1 where that fails; it ignores nothing, whoever started it."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for one in WATCHED:
                signal.signal(one, signal.SIG_DFL)
            body()
            code = 0
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    return child


def left_with(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def handlers() -> list[Any]:
    return [signal.getsignal(one) for one in WATCHED]


def test_those_that_are_watched() -> None:
    assert set(WATCHED) == set(NAMES)


@pytest.mark.parametrize("first", WATCHED)
def test_the_first_is_noted_by_its_name(first: signal.Signals) -> None:
    def body() -> None:
        with Signals() as signals:
            assert signals.caught is None
            signal.raise_signal(first)
            assert signals.caught == NAMES[first]
        assert signals.caught == NAMES[first]

    assert left_with(begin(body)) == 0


@pytest.mark.parametrize(("first", "second"), list(product(WATCHED, WATCHED)))
def test_a_second_one_ends_the_process(first: signal.Signals, second: signal.Signals) -> None:
    def body() -> None:
        with Signals() as signals:
            signal.raise_signal(first)
            assert signals.caught == NAMES[first]
            signal.raise_signal(second)

    assert left_with(begin(body)) == -second


@pytest.mark.parametrize("number", WATCHED)
def test_from_another_process(number: signal.Signals) -> None:
    out, into = os.pipe()

    def body() -> None:
        with Signals() as signals:
            os.write(into, b"ready\n")
            while signals.caught is None:
                time.sleep(0.01)
            os.write(into, f"{signals.caught}\n".encode())
            time.sleep(SECONDS)

    child = begin(body)
    try:
        assert line_of(out) == "ready"
        os.kill(child, number)
        assert line_of(out) == NAMES[number]
        os.kill(child, number)
        assert left_with(child) == -number
    finally:
        os.close(out)
        os.close(into)


def line_of(descriptor: int) -> str:
    assert select.select([descriptor], [], [], SECONDS)[0], "nothing was said"
    return os.read(descriptor, 100).decode().strip()


def own(number: int, frame: object) -> None:
    """A handler that a program has of its own."""


@pytest.mark.parametrize("before", [own, signal.SIG_DFL, signal.SIG_IGN])
def test_afterwards_the_handlers_are_as_before(before: Any) -> None:
    def body() -> None:
        for number in WATCHED:
            signal.signal(number, before)
        signals = Signals()
        for _ in range(2):
            with signals:
                assert (before in handlers()) == (before == signal.SIG_IGN), "one that is ignored stays so"
            assert handlers() == [before] * len(WATCHED)
        with pytest.raises(ZeroDivisionError), signals:
            raise ZeroDivisionError
        assert handlers() == [before] * len(WATCHED)

    assert left_with(begin(body)) == 0


def test_afterwards_a_signal_has_the_effect_that_it_had() -> None:
    def body() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with Signals():
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    assert left_with(begin(body)) == -signal.SIGTERM


def test_before_it_is_a_context_nothing_is_installed() -> None:
    before = handlers()
    assert Signals().caught is None and handlers() == before


def test_in_a_thread_nothing_is_installed() -> None:
    seen: list[Any] = []

    def body() -> None:
        with Signals() as signals:
            seen.append(handlers())
        seen.append(signals.caught)

    before = handlers()
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert seen == [before, None] and handlers() == before
