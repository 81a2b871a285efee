"""Copies one file with all its attributes: what stands in for a hard link where the filesystem cannot make one."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

_CHUNK = 1 << 20
_COPY_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC


def copy_entry(source: int, name: bytes, directory: int, new: bytes) -> None:
    """Copy a file that is no directory between two directories, given by their descriptors.

    Some filesystems have no hard links, some count only so many for a file (ext4: 65,000), and the kernel may refuse
    links to what belongs to others (fs.protected_hardlinks).  A copy holds the same, and takes its space once more.

    Raises:
        FileExistsError: The new name is taken.
        OSError: The copy failed.
    """
    status = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), new, dir_fd=directory)
    elif stat.S_ISFIFO(status.st_mode):
        os.mkfifo(new, stat.S_IMODE(status.st_mode), dir_fd=directory)
    elif stat.S_ISREG(status.st_mode):
        _copy_regular(source, name, directory, new, status)
        return
    else:
        os.mknod(new, status.st_mode, status.st_rdev, dir_fd=directory)
    with suppress(PermissionError):
        os.chown(new, status.st_uid, status.st_gid, dir_fd=directory, follow_symlinks=False)
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=directory, follow_symlinks=False)


def _copy_regular(source: int, name: bytes, directory: int, new: bytes, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    reading = os.open(name, os.O_RDONLY | _COPY_FLAGS, dir_fd=source)
    try:
        writing = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _COPY_FLAGS, 0o600, dir_fd=directory)
        try:
            while os.sendfile(writing, reading, None, _CHUNK):
                pass
            with suppress(PermissionError):
                os.fchown(writing, status.st_uid, status.st_gid)
            for attribute in os.listxattr(reading):
                with suppress(OSError):
                    os.setxattr(writing, attribute, os.getxattr(reading, attribute))
            os.fchmod(writing, mode)
            os.utime(writing, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(writing)
    finally:
        os.close(reading)
