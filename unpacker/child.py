"""A forked process that does one piece of work beside its parent, and is never left behind."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from unpacker.tree.undisturbed import undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable

    Tell = Callable[[int], None]

_NUMBER = struct.Struct("=q")
_READ = 1 << 16


def may_fork() -> bool:
    """Whether this process can be forked safely: another thread could hold a lock that its copy would wait for.

    Threads that Python knows nothing of count as well.
    """
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return threading.active_count() == 1


class Child:
    """A child process; it dies with its parent, and has nobody to report to but this object.

    Args:
        work: What it does, in the child; it gets a function by which it can tell a number, and returns one.  Neither
            number is negative.

    Attributes:
        pid: Its process id.
        running: Whether it has not ended yet, as far as is known.
        told: The number that it has told last.
        result: The number that its work has returned; None if it has not ended, or failed.
        status: A descriptor that can be waited for; `update` takes in what is new then.

    Raises:
        OSError: There can be no more processes, or descriptors.
    """

    def __init__(self, work: Callable[[Tell], int]) -> None:
        self.pid = 0
        self._parent = os.getpid()
        self.running = False
        self.told = 0
        self.result: int | None = None
        self._unread = b""
        self.status, theirs = os.pipe()
        self._lifeline = -1
        lifeline = -1
        try:
            lifeline, self._lifeline = os.pipe()
            os.set_blocking(theirs, False)
            with undisturbed():
                self.pid = os.fork()
                if not self.pid:
                    _run(work, theirs, lifeline, self._lifeline)
                self.running = True
        except BaseException:  # a signal may have waited until there was a process
            self.kill()
            raise
        finally:
            for descriptor in (theirs, lifeline):
                if descriptor >= 0:
                    os.close(descriptor)
            if not self.running:
                self._close()

    def __del__(self) -> None:
        """End it if nobody has it any more: an exception of a signal's handler may come before anybody has."""
        self.kill()

    def update(self) -> None:
        """Take in what it has told, or that it has ended; waits if there is no news."""
        data = os.read(self.status, _READ)
        if not data:
            self._reap()
            return
        data = self._unread + data
        whole = len(data) - len(data) % _NUMBER.size
        self._unread = data[whole:]
        for (number,) in _NUMBER.iter_unpack(data[:whole]):
            if number < 0:
                self.result = -1 - number
            else:
                self.told = number

    def kill(self) -> None:
        """End it, if it has not ended by itself; what is a copy of its parent, by another fork, leaves it alone."""
        if self.running and os.getpid() == self._parent:
            with suppress(ProcessLookupError, ChildProcessError):
                # Who has reaped all children of the process has given its number away, to whomever.
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                os.kill(self.pid, signal.SIGKILL)
            self._reap()

    def _reap(self) -> None:
        with suppress(ChildProcessError):  # whoever called may reap all children of the process
            os.waitpid(self.pid, 0)
        self.running = False
        self._close()

    def _close(self) -> None:
        for descriptor in (self.status, self._lifeline):
            if descriptor >= 0:
                os.close(descriptor)
        self.status = self._lifeline = -1


def _run(work: Callable[[Tell], int], status: int, lifeline: int, parents: int) -> NoReturn:
    """Do the work in the child, from which nothing returns: neither an exception nor an exit handler of the parent."""
    code = 1
    try:
        os.close(parents)
        _die_with_parent(lifeline)

        def tell(number: int) -> None:
            with suppress(BlockingIOError):  # the parent is busy, and will hear of it later
                os.write(status, _NUMBER.pack(number))

        result = work(tell)
        os.set_blocking(status, True)
        os.write(status, _NUMBER.pack(-1 - result))
        code = 0
    finally:
        os._exit(code)


def _die_with_parent(lifeline: int) -> None:
    """Let the kernel kill this process when the other end of a pipe closes, which only the parent holds.

    This is for a parent that is killed itself.  The signal that says "something happened at this descriptor" can be any
    one (F_SETSIG), and so be the one that nothing can delay.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | fcntl.FASYNC)
    if _ready([lifeline], 0):  # it died before
        os._exit(1)


def wait(children: list[Child], seconds: float | None = None) -> None:
    """Wait until one of some running children has told something, or ended; take in what they have told.

    With ``seconds``, no longer than that.
    """
    ready = _ready([child.status for child in children], seconds)
    for child in children:
        if child.status in ready:
            child.update()


def _ready(descriptors: list[int], seconds: float | None) -> set[int]:
    """Give those that can be read, or whose other end is closed; select(2) takes no number above 1023."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000)}
