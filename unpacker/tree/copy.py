"""Copies files with all their attributes: out of a store, up from a lower layer, or where a hard link cannot be made.

Data goes by reflink where the filesystem shares blocks (btrfs, xfs), else by ``copy_file_range``, which stays in the
kernel; holes stay holes.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from unpacker.spec.entry import Entry, Kind
from unpacker.tree import links
from unpacker.tree.attributes import KEPT_MODE
from unpacker.tree.clone import copy_range, reflink

if TYPE_CHECKING:
    from collections.abc import Callable

    from unpacker.tree.attributes import Applier

    Renamed = Callable[[bytes], bytes | None]

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC
_MODE_DIGITS = 4
_STEP = 4 << 20
"""Bytes of a file that are copied at a time."""
_NO_XATTRS = frozenset({errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENODATA})

_KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.FIFO,  # no tar has one, but daemons leave them; made by mknod, as a fifo is
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
}


def as_it_is(name: bytes) -> bytes | None:
    """Leave the name of an extended attribute as it is."""
    return name


def xattrs(target: int | bytes, renamed: Renamed = as_it_is) -> dict[bytes, bytes] | None:
    """Give the extended attributes of a file by its descriptor, or of what has a path, without following a link.

    Args:
        target: The descriptor or the path.
        renamed: Gives the name to use instead of the one on disk; None leaves the attribute out.
    """
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError as error:
        if error.errno != errno.ENOTSUP:  # anything else would lose them in silence
            raise
        return None
    found = {}
    for name in map(os.fsencode, names):
        new = renamed(name)
        if new is not None:
            found[new] = os.getxattr(target, name, follow_symlinks=follow)
    return found or None


def kept(target: int | bytes, mode: int, renamed: Renamed = as_it_is) -> tuple[int, dict[bytes, bytes] | None]:
    """Give mode and extended attributes of what lies in a store, the mode as it was before it had to be readable."""
    found = xattrs(target, lambda name: name if name == KEPT_MODE else renamed(name))
    if not found or KEPT_MODE not in found:
        return mode, found
    text = found.pop(KEPT_MODE)
    return int(text, 8) if len(text) == _MODE_DIGITS and not text.strip(b"01234567") else mode, found or None


def is_stored_otherwise(directory: int, name: bytes, renamed: Renamed) -> bool:
    """Whether a file in a directory of a store has another mode, or other names of attributes, than elsewhere."""
    try:
        found = os.listxattr(os.fsencode(f"/proc/self/fd/{directory}/") + name, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_XATTRS:
            raise
        return False
    return any(name == KEPT_MODE or renamed(name) != name for name in map(os.fsencode, found))


def ignore_copy(_size: int) -> None:
    """Do nothing."""


class Copier:
    """Copies what is no directory, from one directory to another.

    Args:
        applier: Gives the copies their attributes, and counts what cannot be given; ids are the host's.
        on_copy: Told of all bytes before they are copied, unless their blocks are shared; may raise.
    """

    def __init__(self, applier: Applier, on_copy: Callable[[int], None] = ignore_copy) -> None:
        self.applier = applier
        self.on_copy = on_copy
        self._reflink = True

    def copy(
        self,
        source: int,
        name: bytes,
        directory: int,
        new: bytes,
        path: bytes,
        renamed: Renamed = as_it_is,
        status: os.stat_result | None = None,
    ) -> None:
        """Copy a file, a link or a node between two directories, given by their descriptors.

        Args:
            source: The directory it is in.
            name: Its name there.
            directory: The directory that it shall be in as well.
            new: The name there, which is free.
            path: What losses call it.
            renamed: What the copy's extended attributes are called.
            status: Its status, if that is known already.

        Raises:
            FileExistsError: The new name is taken.
            OSError: The copy failed.
        """
        status = status or os.stat(name, dir_fd=source, follow_symlinks=False)
        entry = Entry(_KINDS[stat.S_IFMT(status.st_mode)], path, 0)
        entry.mode = stat.S_IMODE(status.st_mode)
        entry.uid, entry.gid, entry.mtime = status.st_uid, status.st_gid, status.st_mtime_ns
        if entry.kind is Kind.FILE:
            self._copy_file(source, name, directory, new, entry, renamed, status)
            return
        if entry.kind is Kind.SYMLINK:
            links.symlink(os.readlink(name, dir_fd=source), directory, new)
        else:
            os.mknod(new, status.st_mode & ~0o7000, status.st_rdev, dir_fd=directory)
        entry.xattrs = xattrs(os.fsencode(f"/proc/self/fd/{source}/") + name, renamed)
        self.applier.special(directory, new, entry)

    def _copy_file(
        self,
        source: int,
        name: bytes,
        directory: int,
        new: bytes,
        entry: Entry,
        renamed: Renamed,
        status: os.stat_result,
    ) -> None:
        reading = _open_to_read(source, name, stat.S_IMODE(status.st_mode))
        try:
            created = entry.mode & 0o777
            writing = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, created, dir_fd=directory)
            try:
                self.copy_data(reading, writing, status)
                entry.mode, entry.xattrs = kept(reading, entry.mode, renamed)
                self.applier.file(writing, entry, created)
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    def copy_data(self, reading: int, writing: int, status: os.stat_result | None = None) -> None:
        """Copy all data of one file to another, which is empty."""
        status = status or os.fstat(reading)
        size = status.st_size
        if not size:
            return
        self._reflink = self._reflink and reflink(reading, writing)
        if self._reflink:
            return
        if status.st_blocks * 512 >= size:
            self._copy_range(reading, writing, 0, size)
            return
        position = 0
        while (begin := _next_data(reading, position)) is not None:
            position = os.lseek(reading, begin, os.SEEK_HOLE)
            self._copy_range(reading, writing, begin, position)
        os.ftruncate(writing, size)

    def _copy_range(self, reading: int, writing: int, begin: int, end: int) -> None:
        """Copy bytes to the same place in another file."""
        while begin < end:
            step = min(_STEP, end - begin)
            self.on_copy(step)
            if copy_range(reading, writing, begin, begin + step) < begin + step:
                raise OSError(errno.EIO, "the file has become shorter while it was copied")
            begin += step


def _open_to_read(directory: int, name: bytes, mode: int) -> int:
    """Open a file; one that not even its owner may read, by its mode, he may for a moment."""
    try:
        return os.open(name, os.O_RDONLY | _FLAGS, dir_fd=directory)
    except PermissionError:
        descriptor = os.open(name, os.O_PATH | _FLAGS, dir_fd=directory)
        place = f"/proc/self/fd/{descriptor}"
        try:
            os.chmod(place, mode | stat.S_IRUSR)
            try:
                return os.open(place, os.O_RDONLY | os.O_CLOEXEC)
            finally:
                os.chmod(place, mode)
        except OSError:
            pass  # it is somebody else's
        finally:
            os.close(descriptor)
        raise


def _next_data(descriptor: int, position: int) -> int | None:
    """Give where data begins at or behind a position; None if there is no more."""
    try:
        return os.lseek(descriptor, position, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None
