"""The kernel's calls for mounts, which Python's ``os`` does not have: as they are, through ctypes.

They go by number where a C library may have no function for them; the numbers are the same on every architecture since
Linux 5.1, but for two.  Each raises the ``OSError`` that it is.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

_libc = ctypes.CDLL(None, use_errno=True)
_OTHER_NUMBERS = ("alpha", "mips")

_OPEN_TREE = 428
_MOVE_MOUNT = 429
_FSOPEN = 430
_FSCONFIG = 431
_FSMOUNT = 432
_MOUNT_SETATTR = 442

_SET_FLAG, _SET_STRING, _SET_FD, _CREATE = 0, 1, 5, 6
_FSOPEN_CLOEXEC = _FSMOUNT_CLOEXEC = _OPEN_TREE_CLONE = 1
_MOVE_BY_DESCRIPTORS = 0x04 | 0x40
_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_UMOUNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_CLONE_FS = 0x200

_IDMAP = 0x100000
_ATIME = 0x70
ATTRIBUTES = {
    "ro": 0x1,
    "nosuid": 0x2,
    "nodev": 0x4,
    "noexec": 0x8,
    "noatime": 0x10,
    "strictatime": 0x20,
    "nodiratime": 0x80,
    "nosymfollow": 0x200000,
}
"""MOUNT_ATTR_*, for the calls since Linux 5.2."""
MS_FLAGS = {
    "ro": 1,
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "noatime": 1024,
    "strictatime": 1 << 24,
    "nodiratime": 2048,
    "nosymfollow": 256,
}
"""MS_*, for mount(2)."""
MS_REMOUNT, MS_BIND, MS_REC = 32, 4096, 16384


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _call(number: int, *values: int | bytes | None) -> int:
    if os.uname().machine.startswith(_OTHER_NUMBERS):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    passed = [ctypes.c_long(value) if isinstance(value, int) else value for value in (number, *values)]
    return _checked(_libc.syscall(*passed))


class Filesystem:
    """A filesystem that is being set up: fsopen(2), fsconfig(2), fsmount(2).  A context manager.

    An error carries what the kernel wrote to the context's log, if it did, instead of the bare "Invalid argument".
    """

    def __init__(self, kind: str) -> None:
        self._descriptor = _call(_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self._descriptor)

    def set(self, key: str, value: str | int | None) -> None:
        """Set an option: a text of at most 255 bytes, a descriptor (of overlayfs since Linux 6.13), or a flag."""
        name = os.fsencode(key)
        if value is None:
            self._configure(_SET_FLAG, name, None, 0)
        elif isinstance(value, int):
            self._configure(_SET_FD, name, None, value)
        else:
            self._configure(_SET_STRING, name, os.fsencode(value), 0)

    def mount(self, attributes: int) -> int:
        """Make it, and give a descriptor of a mount of it that is nowhere yet."""
        self._configure(_CREATE, None, None, 0)
        return _call(_FSMOUNT, self._descriptor, _FSMOUNT_CLOEXEC, attributes)

    def _configure(self, command: int, key: bytes | None, value: bytes | None, extra: int) -> None:
        try:
            _call(_FSCONFIG, self._descriptor, command, key, value, extra)
        except OSError as error:
            raise OSError(error.errno, self._log() or error.strerror) from None

    def _log(self) -> str:
        """Read what the kernel has to say: messages like ``e overlay: Unknown parameter 'x'``, one a read."""
        said: list[str] = []
        try:
            while len(said) < 8:  # noqa: PLR2004  the kernel keeps so many
                message = os.read(self._descriptor, 4096).decode("utf-8", "replace").strip()
                said.append(message.removeprefix("e ").removeprefix("overlay: "))
        except OSError:
            pass  # ENODATA: that was all
        return "; ".join(said)


def bind(path: str, attributes: int = 0, *, user_namespace: int | None = None, recursive: bool = False) -> int:
    """Give a descriptor of a bind mount of a directory that is nowhere yet: open_tree(2), mount_setattr(2), Linux 5.12.

    Args:
        path: The directory.
        attributes: Out of `ATTRIBUTES`.
        user_namespace: Descriptor of one whose maps of ids say which owners the mount shows.
        recursive: Whether to bind what is mounted below, too.
    """
    tree = _AT_RECURSIVE if recursive else 0
    mount = _call(_OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | os.O_CLOEXEC | tree)
    mapped = 0 if user_namespace is None else _IDMAP
    clear = _ATIME if attributes & _ATIME else 0
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd
    wanted = struct.pack("=4Q", attributes | mapped, clear, 0, user_namespace or 0)
    try:
        _call(_MOUNT_SETATTR, mount, b"", _AT_EMPTY_PATH | tree, wanted, len(wanted))
    except OSError as error:
        os.close(mount)
        if mapped and error.errno in (errno.EINVAL, errno.ENOSYS):
            raise OSError(error.errno, "kernel or filesystem cannot map owners") from None
        raise
    return mount


def attach(mount: int, directory: int) -> None:
    """Put a mount that is nowhere yet over a directory: move_mount(2), Linux 5.2."""
    _call(_MOVE_MOUNT, mount, b"", directory, b"", _MOVE_BY_DESCRIPTORS)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None) -> None:
    """Mount by names, as it was done before Linux 5.2."""
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    _checked(_libc.mount(*words, ctypes.c_ulong(flags), None if data is None else os.fsencode(data)))


def unmount(target: str, *, lazy: bool) -> None:
    """Unmount what is mounted last on a path, where a symlink is not followed."""
    _checked(_libc.umount2(os.fsencode(target), _UMOUNT_NOFOLLOW | (_UMOUNT_DETACH if lazy else 0)))


def own_directory(path: str) -> None:
    """Change the current directory of this thread, and of no other: unshare(2) with CLONE_FS, then chdir(2)."""
    _checked(_libc.unshare(_CLONE_FS))
    os.chdir(path)
