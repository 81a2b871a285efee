"""Real mounts in tests, of which nothing stays, and kernels that can do less.

For the kernel a mount namespace belongs to a thread: a test in a thread of its own, with a namespace of its own, mounts
what it likes, and all of it is gone when the thread ends.  A seccomp filter belongs to a thread, too, so a test can take
from the kernel what an older one, or a container's sandbox, does not have.  What is below a user namespace cannot be had
in a thread: `in_user_namespace` runs a program.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import struct
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import pytest

from tests.support.probes import nobodys_directory, nobodys_python, run_as_nobody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLONE_NEWNS = 0x20000
MS_REC_PRIVATE = 16384 | (1 << 18)
OPEN_TREE, MOVE_MOUNT, FSOPEN, FSCONFIG, FSMOUNT, MOUNT_SETATTR = NEW_CALLS = (428, 429, 430, 431, 432, 442)
SET_FD, CREATE = 5, 6

P = ParamSpec("P")
libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def in_own_mounts(test: Callable[P, None]) -> Callable[P, None]:
    """Run a test in a thread with a mount namespace of its own; its current directory is its own as well."""

    @functools.wraps(test)
    def run(*values: P.args, **given: P.kwargs) -> None:
        failed: list[BaseException] = []

        def inside() -> None:
            try:
                checked(libc.unshare(CLONE_NEWNS))
                checked(libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC_PRIVATE), None))
                test(*values, **given)
            except BaseException as error:  # noqa: BLE001 -- raised again below
                failed.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if failed:
            raise failed[0]

    return run


def mounted_below(directory: Path | str) -> list[str]:
    """Give the lines of this thread's mountinfo about a directory; /proc/self would be the main thread's."""
    lines = Path("/proc/thread-self/mountinfo").read_text(errors="surrogateescape").splitlines()
    return [line for line in lines if line.split(" ")[4].startswith(str(directory))]


# -- lesser kernels ----------------------------------------------------------------------------------------------------


def refuse(number: int, *calls: int, command: int | None = None) -> None:
    """Let system calls of this thread, and of what it starts, fail with an errno; of fsconfig(2) those of one command."""
    load, equal, give = 0x20, 0x15, 0x06  # BPF: load a word, jump if equal, return
    allow, refused = 0x7FFF0000, 0x00050000 | number
    program = b""
    for call in calls:
        program += struct.pack("=HBBI", load, 0, 0, 0)
        program += struct.pack("=HBBI", equal, 0, 1 if command is None else 3, call)
        if command is not None:
            program += struct.pack("=HBBI", load, 0, 0, 24)  # the lower half of the second argument
            program += struct.pack("=HBBI", equal, 0, 1, command)
        program += struct.pack("=HBBI", give, 0, 0, refused)
    program += struct.pack("=HBBI", give, 0, 0, allow)
    stored = ctypes.create_string_buffer(program)
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(stored))
    checked(libc.prctl(38, 1, 0, 0, 0))  # PR_SET_NO_NEW_PRIVS
    checked(libc.prctl(22, 2, header))  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER


def as_always() -> None:
    """Take nothing away."""


def before_6_13() -> None:
    """Overlayfs takes no descriptors: fsconfig(2) says EINVAL."""
    refuse(errno.EINVAL, FSCONFIG, command=SET_FD)


def before_6_15() -> None:
    """Overlayfs takes no layers out of a mount that is nowhere: EINVAL when it is made."""
    refuse(errno.EINVAL, FSCONFIG, command=CREATE)


def before_5_2() -> None:
    """None of the newer calls is there."""
    refuse(errno.ENOSYS, *NEW_CALLS)


def sandboxed() -> None:
    """A filter of system calls that is older than they are, as container engines had: EPERM."""
    refuse(errno.EPERM, *NEW_CALLS)


KERNELS = pytest.mark.parametrize(
    "kernel", [as_always, before_6_13, before_5_2, sandboxed], ids=lambda kernel: kernel.__name__
)


# -- without privilege -------------------------------------------------------------------------------------------------


@contextmanager
def unprivileged_directory() -> Iterator[Path]:
    """Give a directory for `in_user_namespace`."""
    if os.geteuid() == 0:
        with nobodys_directory() as path:
            yield path
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


def in_user_namespace(program: str, *arguments: str, cwd: str | Path | None = None) -> str:
    """Run a Python program as root of user and mount namespaces that an unprivileged user has made; give its output."""
    python = nobodys_python() if os.geteuid() == 0 else sys.executable
    assert python is not None
    command = ["unshare", "--user", "--map-root-user", "--mount", python, "-c", program, *arguments]
    if os.geteuid() == 0:
        return run_as_nobody(command, cwd=cwd).stdout
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


@cache
def can_enter_user_namespace() -> bool:
    if os.geteuid() == 0 and nobodys_python() is None:
        return False
    try:
        return in_user_namespace("print('in')") == "in\n"
    except (subprocess.CalledProcessError, OSError):
        return False


needs_user_namespace = pytest.mark.skipif(
    not can_enter_user_namespace(), reason="missing: user namespaces for unprivileged users"
)
