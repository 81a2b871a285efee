"""System calls that fail when they are told to, and the list of those that a run makes.

Whatever Python's `os` hands to the kernel is wrapped, whoever calls it, and what goes by other ways: file objects,
`fcntl`, `select`, new threads, and the two calls for which there is only the C library.  So there is no list of calls
that one could be missing from: a run is watched once, and each place of the code that makes a call is a place where it
can fail.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import fcntl
import io
import os
import pickle
import select
import signal
import stat
import sys
import threading
from contextlib import ExitStack, contextmanager
from types import BuiltinFunctionType, FrameType
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Self

NEVER = frozenset(
    {
        *("getpid", "getppid", "getuid", "geteuid", "getgid", "getegid", "umask", "uname", "_exit"),
        *("fspath", "strerror", "major", "minor", "makedev", "cpu_count", "sysconf", "waitstatus_to_exitcode"),
        *("register_at_fork", "get_terminal_size"),
    }
)
"""Functions of `os` that ask the kernel for nothing, or for what it never refuses."""
FCNTL = ("fcntl", "flock", "ioctl")
NAMELESS = frozenset(
    {
        *("close", "dup", "fchmod", "fchown", "fcntl", "flock", "fstat", "fstatvfs", "fsync", "ftruncate", "getdents"),
        *("ioctl", "lseek", "read", "write", "pread", "pwrite", "copy_file_range", "sendfile", "syncfs"),
        *(
            "fork",
            "kill",
            "pipe",
            "sched_getaffinity",
            "poll",
            "set_blocking",
            "thread",
            "urandom",
            "waitid",
            "waitpid",
        ),
    }
)
"""Calls that get no name."""
FROM_C = ("renameat2", "syncfs")
MEMORY = "memory"
BEFORE, AFTER = "before", "after"
_FRAMES = 2
_OWN = "unpacker"
_LABELS = "unpacker.content.labels"
_BY_NUMBER = frozenset(
    {
        *("listdir", "scandir", "stat", "chmod", "chown", "utime"),
        *("getxattr", "setxattr", "listxattr", "removexattr"),
    }
)
"""What takes a path or a descriptor, and says of which it was."""


class Spot(NamedTuple):
    """Where a call is made: what can fail there."""

    role: str
    """``run``, or ``child 1`` and so on for the processes that it forks, in their order."""
    labels: bool
    """Whether it is about the labels of a layout, which are a convenience."""
    call: str
    where: tuple[str, ...]
    """The innermost functions of the package, the one that calls first."""
    line: int


class Fault(NamedTuple):
    """What happens instead of a call, or beside it."""

    name: str
    """An errno, a signal, or `MEMORY`."""
    when: str = BEFORE
    """Of a signal: whether it comes when the call has not been made yet, or when it has."""

    @property
    def signal(self) -> signal.Signals | None:
        return getattr(signal, self.name) if self.name.startswith("SIG") else None


class Plan(NamedTuple):
    """One fault: at the call of a number, counted from 1, that is made at a spot."""

    spot: Spot
    number: int
    fault: Fault


class Watch:
    """Counts the calls of a run, and lets one of them fail.

    Args:
        plan: Which, and how; none of them without.
        notes: A directory for what forked processes have counted.
    """

    def __init__(self, plan: Plan | None, notes: Path | None = None) -> None:
        self._plan = plan
        self._notes = notes
        self._forked = 0
        self._kill, self._wait, self._fstat, self._fcntl = os.kill, os.waitid, os.fstat, fcntl.fcntl
        self.role = "run"
        self.counts: dict[Spot, int] = {}
        self.done = False
        """Whether the fault has come, in this process; not where it cannot be."""

    # -- one call ------------------------------------------------------------------------------------------------------

    def guard(self, call: str, real: Callable[..., Any], *values: Any, **given: Any) -> Any:
        """Make a call, or let it fail."""
        spot = self._spot(call)
        if spot is None:
            return real(*values, **given)
        number = self.counts[spot] = self.counts.get(spot, 0) + 1
        plan = self._plan
        if plan is None or (plan.spot, plan.number) != (spot, number):
            return real(*values, **given)
        fault = plan.fault
        if not _possible(call, fault, values, given):
            return real(*values, **given)
        if fault.signal is not None:
            self.done = True
            return self._signalled(fault, real, *values, **given)
        if call == "close":
            # The kernel lets go of the descriptor, whatever it says.
            possible = fault.name != MEMORY and self._is_written(values[0])
            real(*values, **given)
            if not possible:
                return None
        self.done = True
        return _failed(call, fault, values)

    def _signalled(self, fault: Fault, real: Callable[..., Any], *values: Any, **given: Any) -> Any:
        number = fault.signal
        assert number is not None
        if fault.when == BEFORE:
            self._kill(os.getpid(), number)
            return real(*values, **given)
        try:
            return real(*values, **given)
        finally:
            self._kill(os.getpid(), number)

    def _spot(self, call: str) -> Spot | None:
        where: list[str] = []
        line = 0
        frame: FrameType | None = sys._getframe(2)
        labels = False
        while frame is not None:
            module = frame.f_globals.get("__name__", "")
            if len(where) < _FRAMES and (module == _OWN or module.startswith(f"{_OWN}.")):
                line = line or frame.f_lineno
                where.append(f"{module.removeprefix(f'{_OWN}.')}.{frame.f_code.co_name}")
            labels = labels or module == _LABELS
            frame = frame.f_back
        if not where or where[0].startswith("cli."):  # the command line is read, or the end is told: no unpack any more
            return None
        return Spot(self.role, labels, call, tuple(where), line)

    def _is_written(self, descriptor: int) -> bool:
        """Whether closing it may fail: only of a file that was written does the kernel say then that this has failed."""
        reading = self._fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
        return not reading and stat.S_ISREG(self._fstat(descriptor).st_mode)

    # -- what forks ----------------------------------------------------------------------------------------------------

    def _fork(self, real: Callable[[], int]) -> int:
        pid = real()
        self._forked += 1
        if not pid:
            self.role = f"child {self._forked}"
            self.counts.clear()
        else:  # or what the parent does next, and how often, would be a matter of time
            self._wait(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        return pid

    def _exit(self, real: Callable[[int], None], code: int) -> None:
        if self._notes is not None:
            (self._notes / self.role).write_bytes(pickle.dumps((self.counts, self.done)))
        real(code)

    # -- all calls -----------------------------------------------------------------------------------------------------

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Wrap all there is."""
        with ExitStack() as stack:
            for module, functions in ((os, self._os()), (fcntl, self._wrapped(fcntl, FCNTL))):
                for name, function in functions.items():
                    stack.enter_context(mock.patch.object(module, name, function))
            started = "_start_joinable_thread" if hasattr(threading, "_start_joinable_thread") else "_start_new_thread"
            with (
                mock.patch.object(select, "poll", self._poll(select.poll)),
                mock.patch.object(threading, started, self._wrap("thread", getattr(threading, started))),
                mock.patch.object(ctypes, "CDLL", self._libc(ctypes.CDLL)),
                mock.patch.object(io, "FileIO", file := self._file()),
                mock.patch.object(builtins, "open", self._open(builtins.open, file)),
            ):
                yield

    def _os(self) -> dict[str, Callable[..., Any]]:
        found = self._wrapped(os, system_calls())
        real, fork, leave = os.scandir, found["fork"], os._exit
        found["scandir"] = lambda *values: _Scanned(self, self.guard("scandir", real, *values))
        found["fork"] = lambda: self._fork(fork)
        found["_exit"] = lambda code: self._exit(leave, code)
        return found

    def _wrapped(self, module: Any, names: tuple[str, ...]) -> dict[str, Callable[..., Any]]:
        return {name: self._wrap(name, getattr(module, name)) for name in names}

    def _wrap(self, call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*values: Any, **given: Any) -> Any:
            return self.guard(call, real, *values, **given)

        return wrapped

    def _libc(self, real: Callable[..., Any]) -> Callable[..., Any]:
        watch = self

        class Library:
            def __init__(self, *values: Any, **given: Any) -> None:
                self._library = real(*values, **given)

            def __getattr__(self, name: str) -> Any:
                found = getattr(self._library, name)
                return watch._wrap(name, found) if name in FROM_C else found

        return Library

    def _poll(self, real: Callable[[], Any]) -> Callable[[], Any]:
        def made() -> Any:
            poll = real()
            return mock.Mock(register=poll.register, poll=self._wrap("poll", poll.poll))

        return made

    def _file(self) -> type[io.FileIO]:
        watch = self

        class File(io.FileIO):
            def read(self, *values: Any) -> Any:
                return watch.guard("read", super().read, *values)

            def readall(self) -> Any:
                return watch.guard("read", super().readall)

            def readinto(self, *values: Any) -> Any:
                return watch.guard("read", super().readinto, *values)

            def write(self, *values: Any) -> Any:
                return watch.guard("write", super().write, *values)

            def close(self) -> None:
                if self.closed:
                    return
                close = super().close
                watch.guard("close", lambda _descriptor: close(), self.fileno())

        return File

    def _open(self, real: Callable[..., Any], file: type[io.FileIO]) -> Callable[..., Any]:
        def opened(path: Any, mode: str = "r", buffering: int = -1, **given: Any) -> Any:
            if "b" not in mode:
                return self.guard("open", real, path, mode, buffering, **given)
            raw_mode = mode.replace("b", "")
            if isinstance(path, int):
                raw = file(path, raw_mode, **given)
            else:
                raw = self.guard("open", file, path, raw_mode, **given)
            if not buffering:
                return raw
            return io.BufferedReader(raw) if raw_mode == "r" else io.BufferedWriter(raw)

        return opened


class _Scanned:
    """What `os.scandir` gives: each step of it may fail."""

    def __init__(self, watch: Watch, entries: Any) -> None:
        self._watch = watch
        self._entries = entries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._entries.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self._watch.guard("getdents", next, self._entries)


def system_calls() -> tuple[str, ...]:
    """Name what `os` has of functions that ask the kernel for something."""
    return tuple(
        name
        for name, function in vars(os).items()
        if isinstance(function, BuiltinFunctionType) and name not in NEVER and not name.startswith("W")
    )


def _possible(call: str, fault: Fault, values: tuple[Any, ...], given: dict[str, Any]) -> bool:
    """Whether a call can fail like this: no name is too long where there is none, and a child is one's own."""
    if call in ("kill", "waitid", "waitpid"):
        return fault.signal is not None
    if fault.name != "ENAMETOOLONG":
        return True
    if (
        call == "readlink" and given.get("dir_fd") is not None
    ):  # of one name, and it was looked at whether it is too long
        return False
    return call not in NAMELESS and not (call in _BY_NUMBER and isinstance(values[0], int))


def _failed(call: str, fault: Fault, values: tuple[Any, ...]) -> Any:
    """Fail as Python's function does."""
    if fault.name == MEMORY:
        raise MemoryError
    number = getattr(errno, fault.name)
    if call == "access":  # which knows no errors
        return False
    if call == "thread":  # nor is an errno told here
        raise RuntimeError("can't start new thread")
    if call in FROM_C:
        ctypes.set_errno(number)
        return -1
    name = next((one for one in values if isinstance(one, str | bytes)), None)
    if name is None and call in _BY_NUMBER:
        name = values[0]
    raise OSError(number, os.strerror(number), name)
