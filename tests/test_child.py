"""Forked processes: what they tell, how they end, and that none is left."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from unpacker.child import Child, may_fork, wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from unpacker.child import Tell

PATIENCE = 20.0


@pytest.fixture(autouse=True)
def alone() -> None:
    if not may_fork():
        pytest.skip("this process has more threads than one")


def ended(child: Child) -> Child:
    while child.running:
        wait([child])
    return child


def descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")


def is_there(pid: int) -> bool:
    """Whether a process runs; one that has ended, and that nobody has waited for, does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_child_tells_numbers_and_gives_one() -> None:
    before = descriptors()
    told = []

    def work(tell: Tell) -> int:
        for number in (1, 5, 2**62):
            tell(number)
            time.sleep(0.01)
        return 7

    child = Child(work)
    while child.running:
        wait([child])
        told.append(child.told)

    assert child.result == 7
    assert child.told == 2**62
    assert told == sorted(told)
    assert len(descriptors()) == len(before)


def fails(_tell: Tell) -> int:
    raise ValueError


def leaves(_tell: Tell) -> int:
    raise SystemExit(0)


def is_killed(_tell: Tell) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


def ends_at_once(tell: Tell) -> int:
    tell(3)
    os._exit(0)


def sleeps(_tell: Tell) -> int:
    time.sleep(1000)
    return 1


@pytest.mark.parametrize("work", [fails, leaves, is_killed, ends_at_once])
def test_a_child_that_fails_has_no_result_and_says_nothing(
    work: Callable[[Tell], int], capfd: pytest.CaptureFixture[str]
) -> None:
    child = ended(Child(work))

    assert child.result is None
    assert capfd.readouterr() == ("", "")


def test_more_is_told_than_anybody_listens_to() -> None:
    """A full pipe stops nobody; what the work returns comes through all the same."""

    def work(tell: Tell) -> int:
        for number in range(100_000):
            tell(number)
        return 1

    child = Child(work)
    time.sleep(0.3)

    assert ended(child).result == 1
    assert 0 < child.told < 100_000


def test_a_child_is_killed() -> None:
    before = descriptors()
    child = Child(sleeps)
    pid = child.pid

    child.kill()
    child.kill()

    assert not child.running
    assert child.result is None
    assert not is_there(pid)
    assert len(descriptors()) == len(before)


def test_children_die_with_a_parent_that_is_killed() -> None:
    """By the kernel, whatever they are at: these two wait for nothing and look at nothing."""
    reading, writing = os.pipe()
    parent = os.fork()
    if not parent:
        try:
            children = [Child(_for_ever) for _ in range(2)]
            for child in children:
                os.write(writing, b"%d\n" % child.pid)
            time.sleep(1000)
        finally:
            os._exit(1)
    os.close(writing)
    with open(reading, encoding="ascii") as lines:
        pids = [int(lines.readline()) for _ in range(2)]
        assert all(map(is_there, pids))

        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)

        end = time.monotonic() + PATIENCE
        while any(map(is_there, pids)) and time.monotonic() < end:
            time.sleep(0.001)
        assert not any(map(is_there, pids))


def _for_ever(_tell: Tell) -> int:
    while True:
        pass


def test_a_child_whose_end_somebody_else_has_taken_note_of() -> None:
    """A caller may wait for all children of the process, ours among them."""
    child = Child(lambda _tell: 4)
    os.waitpid(child.pid, 0)

    assert ended(child).result == 4


def test_whoever_has_the_number_of_a_child_that_somebody_else_has_reaped_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    child = Child(lambda _tell: 4)
    os.waitpid(child.pid, 0)
    killed: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, _signal: killed.append(pid))

    child.kill()

    assert (killed, child.running) == ([], False)


def test_a_signal_that_comes_upon_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked for the process never gets it, and could not end it."""
    before = descriptors()
    fork = os.fork
    pids = []

    def interrupted() -> int:
        pids.append(fork())
        if pids[-1]:
            signal.raise_signal(signal.SIGINT)
        return pids[-1]

    monkeypatch.setattr(os, "fork", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Child(sleeps)

    assert not is_there(pids[0])
    with pytest.raises(ChildProcessError):
        os.waitpid(pids[0], os.WNOHANG)
    assert len(descriptors()) == len(before)


def test_a_child_that_nobody_has_any_more() -> None:
    before = descriptors()
    pid = Child(sleeps).pid

    assert not is_there(pid)
    assert len(descriptors()) == len(before)


def test_a_copy_of_its_parent_leaves_it_alone() -> None:
    """A program that unpacks may fork as well, and each of its processes forgets what it has in the end."""
    child = Child(sleeps)
    copy = os.fork()
    if not copy:
        child.kill()
        del child
        os._exit(0)
    os.waitpid(copy, 0)

    assert is_there(child.pid)
    child.kill()
    assert not is_there(child.pid)


def test_a_caller_with_more_than_a_thousand_descriptors() -> None:
    """Above 1023 there is no select(2)."""
    many = 1024 + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < many:
        pytest.skip(f"this process may have {hard} descriptors at most")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, many), hard))
    taken: list[int] = []
    try:
        with open(os.devnull, "rb") as file:
            while not taken or taken[-1] < 1024:
                taken.append(os.dup(file.fileno()))

            assert ended(Child(lambda _tell: 4)).result == 4
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_more_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors()

    def refused() -> int:
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", refused)
    with pytest.raises(BlockingIOError):
        Child(lambda _tell: 1)

    assert len(descriptors()) == len(before)


def test_a_process_with_other_threads_may_not_be_forked() -> None:
    stop = threading.Event()
    other = threading.Thread(target=stop.wait)
    other.start()
    try:
        assert not may_fork()
    finally:
        stop.set()
        other.join()
