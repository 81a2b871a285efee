"""Owner, extended attributes, mode and times of what was made, in the only order that keeps them all.

Data first, since writing clears setuid; owner next, since chown clears setuid and file capabilities; then extended
attributes; then the mode, which ACLs would change; times last.  Always on a descriptor, or on a name in a directory
without following it, and never by opening a device or a fifo, which could hang or act.

What a filesystem cannot hold or the caller may not set is a counted loss (`Losses`), never an error and never silent.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

from unpacker.errors import UnsafeEntryError, quoted, word
from unpacker.events import LossKind
from unpacker.spec.entry import Entry, Kind

if TYPE_CHECKING:
    from unpacker.tree.owners import Owners

OnLoss = Callable[[LossKind, bytes, str], None]

KEPT_MODE = b"user.overlay.unpack.mode"
"""Among those that overlayfs takes for its own and shows to nobody, in mounts with ``userxattr``."""
_SPECIAL_BITS = 0o7000
# What chown says where the caller may not, or where the id has no place in its user namespace.
_CHOWN_REFUSED = frozenset({errno.EPERM, errno.EINVAL})
# What setxattr says where an attribute has no place: the filesystem has none or no room (ENOSPC: ext4's one block), the
# caller may not, the kernel's own check of the value fails (capabilities, ACLs, SELinux labels).
_XATTR_REFUSED = frozenset(
    {errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOSPC, errno.ERANGE, errno.E2BIG, errno.ENODATA}
)
# What chmod says where there are no modes, or not this one.
_MODE_REFUSED = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS})
_ODD_MODE = 0o610
"""A mode that no filesystem gives to all its files."""
_SECOND = 10**9
_SAFE_TIME = 2**31 * _SECOND  # every filesystem holds times below this one
_TIME_MAX = 2**62 * _SECOND  # what time_t holds, and to spare


class Attributes:
    """What a directory shall have when all work in it is done."""

    __slots__ = ("gid", "mode", "mtime", "on_host", "uid", "xattrs")

    def __init__(self, mode: int, uid: int, gid: int, mtime: int, xattrs: dict[bytes, bytes] | None = None) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime = mtime
        self.xattrs = xattrs
        self.on_host = False  # whether the ids are the host's already, as they were read from disk

    @classmethod
    def of(cls, entry: Entry) -> Attributes:
        """Take them from a directory's entry."""
        return cls(entry.mode, entry.uid, entry.gid, entry.mtime, entry.xattrs)


IMPLIED_MODE = 0o755


def implied() -> Attributes:
    """Give those of a directory that no entry speaks of and no layer below has: 0755, root's, of 1970, as the root."""
    return Attributes(IMPLIED_MODE, 0, 0, 0)


class Applier:
    """Applies attributes, and counts what could not be applied.

    Args:
        owners: Which owner to set, and whether to set one.
        on_loss: Told of each loss: its kind, the path, and why.
        umask: The process's file mode creation mask, which the kernel takes off the mode given to open(2).
        readable: Whether the owner must be able to read all of it again, without privilege: what has another mode, as
            Fedora's ``/etc/shadow`` with 0000, gets it, and its own one as the attribute `KEPT_MODE`.
    """

    def __init__(self, owners: Owners, on_loss: OnLoss, umask: int, *, readable: bool = False) -> None:
        self.owners = owners
        self.readable = readable
        self.on_loss = on_loss
        self.umask = umask
        self._own = (os.geteuid(), os.getegid())  # who owns a new file
        self._exact = False  # whether the filesystem has been seen to hold nanoseconds
        self._modes: bool | None = None  # whether it holds modes; None until that was tried

    def file(self, descriptor: int, entry: Entry, created: int) -> None:
        """Finish a regular file; ``created`` is the mode that it was created with, the mask still to be taken off."""
        mode = entry.mode
        if self._modes is None:
            created = self._try_modes(descriptor, created)
        changed = False
        if self.owners.mapped or (entry.uid, entry.gid) != self._own:
            changed = self._owner(entry.uid, entry.gid, descriptor, None, entry.name)
        if self.readable and not mode & stat.S_IRUSR:
            created |= stat.S_IRUSR | stat.S_IWUSR
            os.fchmod(descriptor, created)
            mode = self._kept(descriptor, mode, stat.S_IRUSR, entry.name)
        if entry.xattrs:
            if not created & ~self.umask & stat.S_IWUSR:  # user.* is for those who may write by the mode, not only here
                os.fchmod(descriptor, created | stat.S_IWUSR)
            for name, value in entry.xattrs.items():
                self._xattr(descriptor, name, value, entry.name, follow=True)
        if changed or entry.xattrs or mode != created or mode & (_SPECIAL_BITS | self.umask) or not self._modes:
            self._mode(descriptor, mode, entry.name)
        time = entry.mtime
        if 0 <= time < _SAFE_TIME and (not time % _SECOND or self._exact) and self._modes:
            os.utime(descriptor, ns=(time, time))
        else:
            self._odd_time(descriptor, None, time, entry.name)

    def directory(self, descriptor: int, wanted: Attributes, path: Callable[[], bytes]) -> None:
        """Finish a directory by its (readable) descriptor.

        Raises:
            UnsafeEntryError: Its owner has no place in the maps of ids.
            OSError: The host failed; a note says at which directory.
        """
        try:
            self._directory(descriptor, wanted, path)
        except UnsafeEntryError as error:
            error.entry = path()
            raise
        except OSError as error:
            error.add_note(f"entry {quoted(path())}")
            raise

    def _directory(self, descriptor: int, wanted: Attributes, path: Callable[[], bytes]) -> None:
        if self._modes is None and os.fstat(descriptor).st_uid == self._own[0]:
            self._try_modes(descriptor)
        self._owner(wanted.uid, wanted.gid, descriptor, None, path, on_host=wanted.on_host)
        if wanted.xattrs:
            for name, value in wanted.xattrs.items():
                self._xattr(descriptor, name, value, path(), follow=True)
        mode = wanted.mode
        if self.readable and mode & stat.S_IRWXU != stat.S_IRWXU:
            mode = self._kept(descriptor, mode, stat.S_IRWXU, path())
        try:
            self._mode(descriptor, mode, path)
            self._time(descriptor, None, wanted.mtime, path)
        except PermissionError:  # DEST itself, where it was there before and is not the caller's
            self.on_loss(LossKind.MODE, path(), f"mode {wanted.mode:04o} and time not set: it is not yours")

    def special(self, directory: int, name: bytes, entry: Entry) -> None:
        """Finish a symlink, fifo or device node, by its name in a directory."""
        changed = self._owner(entry.uid, entry.gid, name, directory, entry.name)
        if entry.xattrs:
            # setxattr(2) has no *at form; the directory's own descriptor gives a path that nobody can redirect.
            place = os.fsencode(f"/proc/self/fd/{directory}/") + name
            for key, value in entry.xattrs.items():
                self._xattr(place, key, value, entry.name, follow=False)
        if entry.kind is not Kind.SYMLINK and (changed or entry.xattrs or entry.mode & (_SPECIAL_BITS | self.umask)):
            self._mode_unopened(directory, name, entry)
        self._time(name, directory, entry.mtime, entry.name)

    # -- one attribute each ------------------------------------------------------------------------------------------

    def _owner(
        self,
        uid: int,
        gid: int,
        target: int | bytes,
        directory: int | None,
        path: bytes | Callable[[], bytes],
        *,
        on_host: bool = False,
    ) -> bool:
        """Set the owner if it is not so already; True if chown was called (and so cleared setuid)."""
        owners = self.owners
        if owners.mapped and not on_host:
            uid, gid = owners.map(uid, gid)
        if (uid, gid) == self._own:
            return False
        if owners.apply:
            try:
                os.chown(target, uid, gid, dir_fd=directory, follow_symlinks=directory is None)
            except OSError as error:
                if owners.required or error.errno not in _CHOWN_REFUSED:
                    refused = OSError(error.errno, error.strerror)  # without the descriptor, which says nothing
                    refused.add_note(f"owner {uid}:{gid}")
                    raise refused from error
            else:
                return True
        if owners.counted:
            self.on_loss(LossKind.OWNER, _path(path), f"owner {uid}:{gid} not set")
        return False

    def _kept(self, descriptor: int, mode: int, needed: int, path: bytes) -> int:
        """Note the mode of what the owner could not read, and give the one that it gets."""
        try:
            os.setxattr(descriptor, KEPT_MODE, b"%04o" % mode)
        except OSError as error:
            if error.errno not in _XATTR_REFUSED:
                raise
            self.on_loss(LossKind.MODE, path, f"mode {mode:04o} became {mode | needed:04o}, to be read again")
        return mode | needed

    def _xattr(self, target: int | bytes, name: bytes, value: bytes, path: bytes, *, follow: bool) -> None:
        try:
            os.setxattr(target, name, value, follow_symlinks=follow)
        except FileNotFoundError:
            if follow:
                raise
            self.on_loss(LossKind.XATTR, path, f"{word(name)}: no /proc is mounted")
        except OSError as error:
            if error.errno not in _XATTR_REFUSED:
                raise
            self.on_loss(LossKind.XATTR, path, f"{word(name)}: {os.strerror(error.errno)}")

    def _mode_unopened(self, directory: int, name: bytes, entry: Entry) -> None:
        """Set the mode of a node that must not be opened: O_PATH opens nothing, and /proc leads to that very inode."""
        descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            self._mode(f"/proc/self/fd/{descriptor}", entry.mode, entry.name)
        except FileNotFoundError:
            self.on_loss(LossKind.MODE, entry.name, "no /proc is mounted")
        finally:
            os.close(descriptor)

    def _try_modes(self, descriptor: int, created: int = 0) -> int:
        """See, once, whether the filesystem holds modes; give the mode that a file has, which was created with one.

        Some say yes to all and do nothing (NTFS), some give all files what their mount options say (vfat).
        """
        try:
            os.fchmod(descriptor, _ODD_MODE)
        except OSError as error:
            if error.errno not in _MODE_REFUSED:
                raise
            self._modes = False
            return created
        self._modes = stat.S_IMODE(os.fstat(descriptor).st_mode) == _ODD_MODE
        return _ODD_MODE

    def _mode(self, target: int | str, mode: int, path: bytes | Callable[[], bytes]) -> None:
        if self._modes:
            os.chmod(target, mode)
            if mode & stat.S_ISGID:
                self._look_at_setgid(os.stat(target), path)
            return
        try:
            os.chmod(target, mode)
        except OSError as error:
            if self._modes is None or error.errno not in _MODE_REFUSED or os.stat(target).st_uid != self._own[0]:
                raise
        got = stat.S_IMODE(os.stat(target).st_mode)
        if got != mode:
            self.on_loss(LossKind.MODE, _path(path), f"mode {mode:04o} became {got:04o}")

    def _look_at_setgid(self, status: os.stat_result, path: bytes | Callable[[], bytes]) -> None:
        """See whether setgid has stayed: who is not in the group, and has not CAP_FSETID, loses it without an error."""
        if not status.st_mode & stat.S_ISGID:
            self.on_loss(LossKind.MODE, _path(path), f"setgid not set: you are not in group {status.st_gid}")

    def _time(self, target: int | bytes, directory: int | None, time: int, path: bytes | Callable[[], bytes]) -> None:
        if 0 <= time < _SAFE_TIME and (not time % _SECOND or self._exact) and self._modes:
            os.utime(target, ns=(time, time), dir_fd=directory, follow_symlinks=directory is None)
        else:
            self._odd_time(target, directory, time, _path(path))

    def _odd_time(self, target: int | bytes, directory: int | None, time: int, path: bytes) -> None:
        """Set a time before 1970, after 2038 or within a second, and look whether the filesystem holds it."""
        possible = max(-_TIME_MAX, min(time, _TIME_MAX))
        try:
            os.utime(target, ns=(possible, possible), dir_fd=directory, follow_symlinks=directory is None)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        got = os.stat(target, dir_fd=directory, follow_symlinks=directory is None).st_mtime_ns
        if got != time:
            self.on_loss(LossKind.MTIME, path, f"time {_seconds(time)} s became {_seconds(got)} s")
        elif time % 1000:
            self._exact = True


def _seconds(time: int) -> str:
    whole, fraction = divmod(abs(time), _SECOND)
    return f"{'-' * (time < 0)}{whole}" + (f".{fraction:09}".rstrip("0") if fraction else "")


def _path(path: bytes | Callable[[], bytes]) -> bytes:
    return path if isinstance(path, bytes) else path()
