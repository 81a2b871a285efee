"""Locks across processes: a file beside what it guards, held by ``flock``, free at once when its holder ends.

Whoever holds one writes into it who it is, for those who have to wait: a courtesy, by which nothing is decided.
The file stays when the lock is released, since removing it would let two processes lock two files of one name.  Only a
holder who removes the whole directory around it may take it along: those who waited notice, and start over.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from unpacker.errors import LockedError
from unpacker.record import Record
from unpacker.tree.probe import umask

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from filelock import BaseFileLock

FOREVER = -1.0
"""How long to wait for a lock that is worth any wait."""
_POLL = 0.01
"""Seconds between two attempts: most locks are held for milliseconds."""
_OWNERS = 0o600
_LONGEST = 100
"""Bytes that are read of what a holder wrote."""


class Holder(Record):
    """Who holds a lock, as far as it said."""

    pid: int | None = None
    since: str | None = None
    """In RFC 3339, of its own clock."""


class Lock:
    """One lock of one process; a context manager that holds it.

    Args:
        path: The file, whose directory must be there.
        where: The store or the layout that it belongs to, for the error.
        what: What it guards, for the error.
        directory: A descriptor of its directory, which stays open until it is released.  It is looked for in there, so
            that a link that has taken the place of the directory meanwhile leads nowhere.
    """

    def __init__(self, path: str, *, where: str, what: str, directory: int | None = None) -> None:
        self._path = path if directory is None else _beneath(directory, path)
        self._shown = path
        self._where = where
        self._what = what
        self._lock: BaseFileLock | None = None

    def acquire(self, wait: float = 0.0, on_wait: Callable[[Holder], None] | None = None) -> Self:
        """Take the lock.

        Args:
            wait: Seconds to wait for it at most, or `FOREVER`.
            on_wait: Told once who holds it, if there is anybody to wait for.

        Raises:
            LockedError: Somebody else still holds it.
            FileNotFoundError: Its directory is not there, or went away with its last holder.
            OSError: This filesystem has no locks, or its file cannot be opened.
        """
        from filelock import FileLock, Timeout  # noqa: PLC0415 - slow to import, and most runs lock nothing

        # Not bound to a thread: what one thread opens, another may close.
        new = partial(FileLock, thread_local=False, fallback_to_soft=False, poll_interval=_POLL)
        if umask() & _OWNERS:  # which would let nobody have it a second time
            new = partial(new, mode=_OWNERS)
        lock = new(self._path)
        try:
            self._take(lock, 0)
        except Timeout:
            if not wait:
                raise self._error() from None
            if on_wait is not None:
                holder = self.holder()
                if holder.pid is None:  # It writes that a moment after it has the lock.
                    time.sleep(_POLL)
                    holder = self.holder()
                on_wait(holder)
            try:
                self._take(lock, wait)
            except (Timeout, RuntimeError):  # The latter: this very thread holds it, so that it would wait for ever.
                raise self._error() from None
        self._lock = lock
        self._sign(f"{os.getpid()} {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}\n")
        return self

    def _take(self, lock: BaseFileLock, wait: float) -> None:
        try:
            lock.acquire(timeout=wait)
        except TimeoutError:
            raise
        except FileExistsError as error:  # filelock makes the directory; it was there, and then it was not
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self._shown) from error
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._shown) from error

    def release(self) -> None:
        """Let go; more than once does no harm."""
        lock, self._lock = self._lock, None
        if lock is not None:
            try:
                self._sign("")
            finally:
                lock.release()

    def __enter__(self) -> Self:
        return self if self._lock is not None else self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def holder(self) -> Holder:
        """Give who holds it, if somebody does and said so."""
        try:
            with open(self._path, "rb", opener=_open_no_link) as file:
                pid, _, since = file.read(_LONGEST).decode("ascii").strip().partition(" ")
            return Holder(pid=int(pid), since=since or None)
        except (OSError, ValueError):
            return Holder()

    def _sign(self, text: str) -> None:
        """Write who holds it; a file with other names as well may be anybody's, and is left as it is.

        Over what stands there, blanks over the rest: to cut a file costs a filesystem with a journal milliseconds.
        """
        with suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if os.fstat(fd).st_nlink == 1:
                    os.pwrite(fd, text.ljust(_LONGEST).encode("ascii"), 0)
            finally:
                os.close(fd)

    def _error(self) -> LockedError:
        holder = self.holder()
        return LockedError(where=self._where, what=self._what, pid=holder.pid, since=holder.since)


def _beneath(directory: int, path: str) -> str:
    """Give a path to the file in an open directory; where no /proc is mounted, the path as it is.

    Raises:
        FileNotFoundError: The directory has been removed, and filelock would make another one.
    """
    if not os.fstat(directory).st_nlink:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    place = f"/proc/self/fd/{directory}"
    return os.path.join(place if os.path.isdir(place) else os.path.dirname(path), os.path.basename(path))


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
