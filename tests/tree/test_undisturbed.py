"""Signals wait while something is done that must not be broken off, and are heard then."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from unpacker.tree.undisturbed import undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class HeardError(Exception):
    """What the handler of a test raises."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Handlers that raise; they are there again after each test."""

    def hear(number: int, _frame: object) -> None:
        raise HeardError(number)

    before = {number: signal.signal(number, hear) for number in NUMBERS}
    yield
    assert all(signal.getsignal(number) is hear for number in NUMBERS), "they were put back"
    for number, handler in before.items():
        signal.signal(number, handler)


def stop(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def do(*steps: Callable[[], object]) -> None:
    """Take some steps, undisturbed."""
    with undisturbed():
        for step in steps:
            step()


@pytest.mark.parametrize("number", NUMBERS, ids=str)
def test_a_signal_waits_until_the_end(number: signal.Signals) -> None:
    """However often it comes."""
    done: list[str] = []

    with pytest.raises(HeardError, match=str(int(number))):
        do(lambda: stop(number), lambda: done.append("one"), lambda: stop(number), lambda: done.append("two"))

    assert done == ["one", "two"]


def test_a_signal_that_other_threads_could_take_waits_as_well() -> None:
    """Python raises in the main thread, whichever thread the kernel gave it to."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()

    with pytest.raises(HeardError):
        do(lambda: signal.pthread_kill(thread.ident or 0, signal.SIGTERM), end.set, thread.join)

    assert not thread.is_alive()


def test_an_error_passes_and_a_signal_that_came_with_it_is_heard() -> None:
    """The signal is what the caller has to know."""
    with pytest.raises(ZeroDivisionError):
        do(lambda: 1 // 0)
    with pytest.raises(HeardError) as caught:
        do(stop, lambda: 1 // 0)

    assert isinstance(caught.value.__context__, ZeroDivisionError)


def test_one_within_another_waits_for_the_outer() -> None:
    """The clean-up of a failed entry is within the entry."""
    done: list[str] = []

    with pytest.raises(HeardError):
        do(lambda: do(stop, lambda: done.append("inner")), lambda: done.append("outer"))

    assert done == ["inner", "outer"]


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """``nohup``."""
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with undisturbed():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            stop(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, handler)


def test_other_threads_than_the_main_one_are_not_disturbed_anyway() -> None:
    """And may not set handlers."""
    found = []

    def work() -> None:
        with undisturbed():
            found.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert found == ["done"]
