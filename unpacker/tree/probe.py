"""What this caller and this filesystem can do, found out by trying: neither euid 0 nor a version number is proof."""

from __future__ import annotations

import errno
import os

TROUBLE = frozenset(
    {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EROFS},
)
"""What fails at one moment and says nothing about the next: to take it for a no would make a tree of another kind."""
_PROBE_ID = 1
"""Some id that is not the caller's: a caller who may give a file to it may give files away."""


def may_chown(directory: int) -> bool:
    """Try to give a new file in the directory to somebody else, and to go on with it.

    In a container without CAP_CHOWN that fails with EPERM, in a user namespace with one id with EINVAL, both as uid 0.
    Without CAP_FOWNER (all dropped and CHOWN added again) a file that was given away gets no mode and no time any more.
    Filesystems without owners (NTFS) say yes, and the file stays whose it was.
    """
    name = b".probe"
    try:
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    except OSError as error:
        error.add_note("trying whether owners may be set")
        raise
    try:
        other = _PROBE_ID if os.geteuid() != _PROBE_ID else _PROBE_ID + 1
        os.fchown(descriptor, other, other)
        os.fchmod(descriptor, 0o644)
        os.utime(descriptor, ns=(0, 0))
        return os.fstat(descriptor).st_uid == other
    except OSError as error:
        if error.errno in TROUBLE:
            raise
        return False
    finally:
        os.close(descriptor)
        os.unlink(name, dir_fd=directory)


def may_read_all(directory: int) -> bool:
    """Try to read a file that nobody may read, its owner included."""
    name = b".probe"
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0, dir_fd=directory))
    try:
        os.close(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory))
    except PermissionError:
        return False
    else:
        return True
    finally:
        os.unlink(name, dir_fd=directory)


def umask() -> int:
    """Give the process's file mode creation mask.

    From /proc, since asking by ``os.umask`` means setting it, for all threads of the caller's program.
    """
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o777  # unknown: as if it took every bit away, so that modes are always set explicitly
