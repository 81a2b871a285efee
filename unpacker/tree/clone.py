"""A file's data from one file to another without reading it: by sharing its blocks, or by letting the kernel copy."""

from __future__ import annotations

import errno
import os

_FICLONE = 0x40049409
_CHUNK = 1 << 30
# What both say where the filesystem, the kernel or a sandbox does not have them.
_NO_REFLINK = frozenset({errno.ENOTSUP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM})
_NO_RANGE = frozenset({errno.ENOTSUP, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM})


def reflink(reading: int, writing: int) -> bool:
    """Let an empty file share all blocks of another, as btrfs and xfs can; False where that is not possible.

    Raises:
        OSError: It is possible, and failed.
    """
    import fcntl  # noqa: PLC0415 - Linux has it

    try:
        fcntl.ioctl(writing, _FICLONE, reading)
    except OSError as error:
        if error.errno not in _NO_REFLINK:
            raise
        return False
    return True


def copy_range(reading: int, writing: int, begin: int, end: int) -> int:
    """Copy bytes to the same place in another file; give where it ended, which is sooner if the file did.

    Raises:
        OSError: It failed.
    """
    position = begin
    try:
        while position < end:
            copied = os.copy_file_range(reading, writing, min(end - position, _CHUNK), position, position)
            if not copied:  # Some filesystems say so where they mean that they cannot.
                break
            position += copied
    except OSError as error:
        if error.errno not in _NO_RANGE:
            raise
    os.lseek(writing, position, os.SEEK_SET)
    while position < end and (copied := os.sendfile(writing, reading, position, end - position)):
        position += copied
    return position
