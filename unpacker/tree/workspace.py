"""The private place beside DEST where everything is made, and the one rename by which DEST appears.

``.NAME.unpack-XXXXXXXX`` is a sibling of DEST, so that it is on the same filesystem; it is ``0700`` all the time, as
what is made in it may be setuid and is not verified yet (CVE-2021-41091 was such a directory left open).  Its owner
holds a lock on it: one that nobody holds is what a killed run left behind, and the next run for that DEST removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from unpacker.errors import DestinationError
from unpacker.tree.directory import OPEN_DIRECTORY, WORKING_MODE, Tree
from unpacker.tree.remove import remove_at
from unpacker.tree.rename import exchange

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

_NAME_MOST = 200
_INHERITED_ACLS = ("system.posix_acl_default", "system.posix_acl_access")
_OLD = b"replaced"


class Workspace:
    """A private directory on DEST's filesystem; a context manager that leaves nothing behind but what it published.

    Args:
        dest: Where the finished tree shall be; symlinks on the way to it are followed once, now.
        force: Whether a DEST that is not empty is replaced.

    Raises (on entry):
        DestinationError: DEST is there and is not an empty directory.
        OSError: The directory that DEST is in cannot be made, or written to.
    """

    def __init__(self, dest: str, *, force: bool) -> None:
        self.dest = os.path.realpath(dest)
        self._force = force
        self._occupied = False
        self._made_parents: list[str] = []
        self._holder = -1  # the directory that the workspace is in: DEST's parent, or DEST itself
        self._inside = False
        self._name = b""
        self.descriptor = -1

    def __enter__(self) -> Self:
        try:
            self._inspect()
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._remove()
        if self._holder >= 0:
            os.close(self._holder)
            self._holder = -1
        for path in reversed(self._made_parents):
            with suppress(OSError):
                os.rmdir(path)

    def _remove(self) -> None:
        if self.descriptor >= 0:
            remove_at(self._holder, self._name)
            os.close(self.descriptor)
            self.descriptor = -1

    # -- before ------------------------------------------------------------------------------------------------------

    def _inspect(self) -> None:
        """See what is at DEST, and open the directory that the workspace will be in."""
        parent, name = os.path.split(self.dest)
        there = os.path.lexists(self.dest)
        if there and not os.path.isdir(self.dest):
            raise DestinationError(path=self.dest, why="exists and is not a directory")
        if not there:
            self._make_parents(parent)
        # A mount point cannot be renamed over; and one may own an empty DEST without owning what it is in.
        self._inside = there and (not name or _is_mount(self.dest) or not os.access(parent, os.W_OK | os.X_OK))
        self._holder = os.open(self.dest if self._inside else parent, OPEN_DIRECTORY)
        self._prefix = b".%s.unpack-" % os.fsencode(name)[:_NAME_MOST]
        self._sweep()
        self._occupied = there and bool(os.listdir(self.dest))
        if self._occupied and not self._force:
            raise DestinationError(
                path=self.dest, why="exists and is not empty", advice="--force replaces it, once the new tree is ready"
            )
        if self._occupied and self._inside:
            raise DestinationError(path=self.dest, why="is not empty, and cannot be replaced by a rename where it is")

    def _make_parents(self, path: str) -> None:
        missing = []
        while not os.path.lexists(path):
            missing.append(path)
            path = os.path.dirname(path)
        for one in reversed(missing):
            os.mkdir(one)
            self._made_parents.append(one)

    def _sweep(self) -> None:
        """Remove what killed runs for the same DEST have left: a workspace of ours without a living owner."""
        for name in os.listdir(self._holder):
            raw = os.fsencode(name)
            if not raw.startswith(self._prefix):
                continue
            with suppress(OSError):
                descriptor = os.open(raw, OPEN_DIRECTORY, dir_fd=self._holder)
                try:
                    if os.fstat(descriptor).st_uid == os.geteuid():
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        remove_at(self._holder, raw)
                finally:
                    os.close(descriptor)

    def _make(self) -> None:
        while self.descriptor < 0:
            self._name = self._prefix + os.urandom(4).hex().encode()
            os.mkdir(self._name, WORKING_MODE, dir_fd=self._holder)
            self.descriptor = os.open(self._name, OPEN_DIRECTORY, dir_fd=self._holder)
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            if not self._still_there():  # swept by another run, between our mkdir and our lock
                os.close(self.descriptor)
                self.descriptor = -1
        # A setgid parent hands down its group, one with a default ACL its ACL: files would be made with both.
        os.fchown(self.descriptor, os.geteuid(), os.getegid())
        for name in _INHERITED_ACLS:
            with suppress(OSError):
                os.removexattr(self.descriptor, name)
        os.fchmod(self.descriptor, WORKING_MODE)

    def _still_there(self) -> bool:
        try:
            found = os.stat(self._name, dir_fd=self._holder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        ours = os.fstat(self.descriptor)
        return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)

    # -- meanwhile ---------------------------------------------------------------------------------------------------

    def tree(self, name: bytes) -> Tree:
        """Make an empty directory in the workspace, as the root of a tree; whoever asks closes it."""
        os.mkdir(name, WORKING_MODE, dir_fd=self.descriptor)
        return Tree(os.open(name, OPEN_DIRECTORY, dir_fd=self.descriptor))

    def discard(self, name: bytes) -> None:
        """Remove one tree of the workspace."""
        remove_at(self.descriptor, name)

    # -- after -------------------------------------------------------------------------------------------------------

    def publish(self, name: bytes, root: int, finish: Callable[[int], None]) -> None:
        """Let the tree ``name``, whose root is open as ``root``, appear as DEST.

        ``finish`` gives the root, by its descriptor, its attributes.

        Raises:
            DestinationError: Something has come to DEST in the meantime.
        """
        if self._inside:
            self._publish_inside(root, finish)
            return
        finish(root)
        mode = os.fstat(root).st_mode & 0o7777
        if mode & WORKING_MODE != WORKING_MODE:  # who may not write to a directory may not rename it to elsewhere
            os.fchmod(root, mode | WORKING_MODE)
        self._rename(name, os.fsencode(os.path.basename(self.dest)))
        if mode & WORKING_MODE != WORKING_MODE:
            os.fchmod(root, mode)
        self._made_parents.clear()

    def _rename(self, name: bytes, dest: bytes) -> None:
        if self._occupied and exchange(self.descriptor, name, self._holder, dest):
            return  # the old tree is in the workspace now, and goes with it
        if self._occupied:
            os.rename(dest, _OLD, src_dir_fd=self._holder, dst_dir_fd=self.descriptor)
        try:
            os.rename(name, dest, src_dir_fd=self.descriptor, dst_dir_fd=self._holder)
        except OSError as error:
            if self._occupied:
                os.rename(_OLD, dest, src_dir_fd=self.descriptor, dst_dir_fd=self._holder)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise DestinationError(path=self.dest, why="has been filled by somebody else in the meantime") from None
            raise

    def _publish_inside(self, root: int, finish: Callable[[int], None]) -> None:
        """Move the children up into DEST, which keeps its inode; take them back if that fails half-way."""
        moved: list[str] = []
        try:
            for child in os.listdir(root):
                os.rename(child, child, src_dir_fd=root, dst_dir_fd=self._holder)
                moved.append(child)
        except BaseException:
            for child in moved:
                remove_at(self._holder, child)
            raise
        self._remove()
        finish(self._holder)


def _is_mount(path: str) -> bool:
    """Whether a path is a mount point; ``os.path.ismount`` does not see a bind mount on its own filesystem."""
    try:
        with open("/proc/self/mountinfo", "rb") as mounts:
            points = {line.split(b" ")[4] for line in mounts}
    except OSError:
        return os.path.ismount(path)
    escaped = os.fsencode(path)
    for char in b"\\ \t\n":
        escaped = escaped.replace(bytes([char]), b"\\%03o" % char)
    return escaped in points
