"""Work that ends, or fails, at one chosen system call: each step of it becomes the last one once.

`killed` runs the work in a process of its own, which the kernel ends there as by ``kill -9``; `failing` lets the call fail
with an errno in this very process.  Both count the calls by which Python changes a filesystem.
"""

from __future__ import annotations

import errno
import os
import signal
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANGES = (
    *("mkdir", "rename", "link", "symlink", "mknod", "unlink", "rmdir"),
    *("open", "write", "pwrite", "ftruncate", "copy_file_range", "fsync"),
    *("chmod", "fchmod", "chown", "fchown", "utime", "setxattr"),
)


@contextmanager
def acting(number: int, act: Callable[[], None]) -> Iterator[list[str]]:
    """Do something before the call of this number; give the calls that there were, the counting included."""
    seen: list[str] = []

    def counted(name: str) -> Callable[..., object]:
        original = getattr(os, name)

        def call(*values: object, **given: object) -> object:
            seen.append(name)
            if len(seen) == number:
                act()
            return original(*values, **given)

        return call

    with ExitStack() as stack:
        for name in CHANGES:
            stack.enter_context(mock.patch.object(os, name, counted(name)))
        yield seen


def calls(work: Callable[[], object]) -> int:
    """Count the calls of some work, which is done."""
    with acting(0, lambda: None) as seen:
        work()
    return len(seen)


@contextmanager
def failing(number: int, code: int) -> Iterator[None]:
    """Let the call of this number fail, once."""

    def fail() -> None:
        raise OSError(code, os.strerror(code))

    with acting(number, fail):
        yield


def forked(work: Callable[[], object]) -> int:
    """Begin some work in a process of its own; give its id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except BaseException as error:  # noqa: BLE001 -- nothing of the test may go on in here
        os.write(2, f"{error!r}\n".encode())
        os._exit(1)


def ended(pid: int) -> int:
    """Wait for such a process; give its exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed(number: int, work: Callable[[], object]) -> bool:
    """Do some work in a process that is killed before the call of this number; whether it came that far."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def run() -> None:
        with acting(number, die):
            work()

    status = ended(forked(run))
    assert status in (0, -signal.SIGKILL)
    return status != 0


ERRNOS = (errno.EIO, errno.ENOSPC, errno.EINTR)
