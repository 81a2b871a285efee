"""Subvolumes of btrfs: trees that are copied whole by one call, however many files are in them.

The calls are those of ``linux/btrfs.h``, by the numbers that they have on nearly all machines (and nothing on others);
where a filesystem or a kernel has none, that is an answer, and no error.  A
subvolume is made, copied, made writable and (when it is empty) removed by any owner; only to remove one with what is in
it takes privilege.
"""

from __future__ import annotations

import errno
import os
import sys

_CREATE = 0x50009418
_SNAPSHOT = 0x50009417
_DESTROY = 0x5000940F
_SET_FLAGS = 0x4008941A
_FILESYSTEM = 0x8400941F
_INFO = 0x81F8943C
_READ_ONLY = 2
_NUMBER = 8
_NAME, _ARGUMENTS_SIZE = 56, 4096
"""``btrfs_ioctl_vol_args_v2``: the source; flags, which stay unset; the name."""
_OLD_NAME = 8
"""``btrfs_ioctl_vol_args``: no source here, the name."""
_FSID, _FILESYSTEM_SIZE = slice(16, 32), 1024
"""``btrfs_ioctl_fs_info_args``"""
_UUID, _CHANGED, _INFO_SIZE = slice(296, 312), slice(344, 352), 504
"""``btrfs_ioctl_get_subvol_info_args``: among others the number of the transaction that last changed something."""
_ROOT = 256
"""The inode number of every subvolume's root."""
# What is said where there are none, by a kernel before 4.18, a sandbox, or between two filesystems.
_NO_SUBVOLUMES = frozenset(
    {errno.ENOTTY, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.EPERM, errno.EACCES, errno.EROFS}
)


def _ask(descriptor: int, request: int, argument: bytearray) -> bool:
    """Make a call that a filesystem may not have; False if it has not.

    Raises:
        OSError: It has, and it failed.
    """
    import fcntl  # noqa: PLC0415 -- Linux has it

    try:
        fcntl.ioctl(descriptor, request, argument)
    except OSError as error:
        if error.errno not in _NO_SUBVOLUMES:
            raise
        return False
    return True


def _arguments(name: bytes, at: int, source: int = 0) -> bytearray:
    arguments = bytearray(_ARGUMENTS_SIZE)
    arguments[:_NUMBER] = source.to_bytes(_NUMBER, sys.byteorder)
    arguments[at : at + len(name)] = name
    return arguments


def filesystem(descriptor: int) -> bytes | None:
    """Give what tells the btrfs that something is on from all others; None if it is on none.

    Its device does not: each subvolume has its own.
    """
    found = bytearray(_FILESYSTEM_SIZE)
    return bytes(found[_FSID]) if _ask(descriptor, _FILESYSTEM, found) else None


def create(directory: int, name: bytes) -> bool:
    """Make an empty subvolume in a directory; False where that is not possible.

    Raises:
        OSError: It is possible, and failed.
    """
    return _ask(directory, _CREATE, _arguments(name, _NAME))


def snapshot(source: int, directory: int, name: bytes) -> bool:
    """Make a copy of a subvolume, open at its root, in a directory; False where that is not possible.

    The copy is on the disk when this returns.

    Raises:
        OSError: It is possible, and failed.
    """
    if not is_root(source):  # older kernels copy all of what it is in
        return False
    return _ask(directory, _SNAPSHOT, _arguments(name, _NAME, source))


def is_root(descriptor: int) -> bool:
    """Whether a directory can be the root of a subvolume; on another filesystem that means nothing."""
    return os.fstat(descriptor).st_ino == _ROOT


def state(descriptor: int) -> str | None:
    """Give a text that stays the same as long as nothing in a subvolume, open at its root, changes; None if it is none.

    What was written counts from when it has reached the disk: ask after a copy was made, or the filesystem was synced.
    """
    found = bytearray(_INFO_SIZE)
    if not is_root(descriptor) or not _ask(descriptor, _INFO, found):
        return None
    return f"{found[_UUID].hex()} {int.from_bytes(found[_CHANGED], sys.byteorder)}"


def set_writable(descriptor: int, *, writable: bool) -> bool:
    """Let a subvolume, open at its root, be written to or not; False if it is none, or somebody else's."""
    flags = 0 if writable else _READ_ONLY
    return is_root(descriptor) and _ask(descriptor, _SET_FLAGS, bytearray(flags.to_bytes(_NUMBER, sys.byteorder)))


def destroy(directory: int, name: bytes) -> bool:
    """Remove a subvolume with all that is in it, at once; False if it is none, or holds others, or you may not."""
    try:
        return _ask(directory, _DESTROY, _arguments(name, _OLD_NAME))
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EBUSY, errno.ENOENT, errno.ENOTDIR):
            raise
        return False
