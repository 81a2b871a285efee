"""DEST: what is there before, in which directory the work for it is done, and how the finished tree appears at it.

Mostly the work is done beside DEST, and one rename puts the tree in its place.  Where DEST cannot be renamed over (it
is a mount point, or the caller stands in it, or owns it but not what it is in), the work is done inside it, and what is
in the tree's root moves up.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from unpacker.errors import DestinationError, quoted
from unpacker.tree import mounts
from unpacker.tree.directory import OPEN_DIRECTORY, WORKING_MODE, rewound
from unpacker.tree.private import lock
from unpacker.tree.remove import remove_at
from unpacker.tree.rename import exchange
from unpacker.tree.rights import make_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_OLD = b"replaced"
_LOST_AND_FOUND = "lost+found"
_TRIES = 16
_MOST_LINKS = 40


class Destination:
    """Where the tree shall be.

    Args:
        dest: The path; symlinks on the way are followed once, now.  DEST itself may be one, too, and stays.
        force: Whether a DEST that is not empty is replaced.

    Attributes:
        path, parent, name: The real path, and its two parts.
        holder: Descriptor of the directory that the work is done in: DEST's parent, or DEST itself.
    """

    def __init__(self, dest: str, *, force: bool) -> None:
        self.path = _followed(dest)
        self.parent, name = os.path.split(self.path)
        self.name = os.fsencode(name)
        self.holder = -1
        self._force = force
        self._stays: str | None = None  # why DEST must keep its inode
        self._before: os.stat_result | None = None
        self._occupied = False
        self._made_parents: list[str] = []

    @property
    def inside(self) -> bool:
        """Whether the work is done inside DEST."""
        return self._stays is not None

    # -- before ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Look what is at DEST, and open the directory for the work; missing parents are made.

        Raises:
            DestinationError: It is no directory, or another run is filling it.
            OSError: It cannot be looked at, or its parents not be made.
        """
        try:
            self._before = os.lstat(self.path)
        except FileNotFoundError:
            self.holder = self._open_parent()
            return
        if not stat.S_ISDIR(self._before.st_mode):
            raise DestinationError(path=self.path, why="exists and is not a directory")
        self._stays = _why_it_stays(self.path, self.parent, self._before)
        if self._stays is None and not self._force and mounts.is_subvolume(self.path):
            self._stays = _IS_SUBVOLUME  # somebody made it one; and btrfs renames nothing over one, be it empty
        self.holder = os.open(self.path if self.inside else self.parent, OPEN_DIRECTORY)
        if self.inside and not lock(self.holder):
            raise DestinationError(path=self.path, why="is being filled by another run")

    def _open_parent(self) -> int:
        """Open DEST's parent, made if it is not there.

        Another run may make the same ones, or take them away again when it fails.
        """
        for _ in range(_TRIES):
            missing = []
            path = self.parent
            while not os.path.lexists(path):
                missing.append(path)
                path = os.path.dirname(path)
            with suppress(FileExistsError, FileNotFoundError):
                for one in reversed(missing):
                    make_directory(one, 0o777)
                    self._made_parents.append(one)
                return os.open(self.parent, OPEN_DIRECTORY)
        return os.open(self.parent, OPEN_DIRECTORY)

    def check(self) -> None:
        """Refuse a DEST that may be neither filled nor replaced.

        Raises:
            DestinationError: It is not empty.
            OSError: It cannot be looked into.
        """
        if self._before is None:
            return
        try:
            self._occupied = bool(self._found())
        except PermissionError:
            if self.inside:
                raise
            self._occupied = self._has_something_hidden()
        if not self._occupied:
            return
        if not self._force:
            replaceable = self._stays in (None, _IS_SUBVOLUME)
            advice = "--force replaces it, once the new tree is ready" if replaceable else None
            raise DestinationError(path=self.path, why="exists and is not empty", advice=advice)
        if self.inside:
            raise DestinationError(path=self.path, why=f"is not empty, and cannot be replaced: {self._stays}")
        self._refuse_mounts()

    def _has_something_hidden(self) -> bool:
        """Whether there is something in a DEST that may not be read; its owner can make it readable for a moment."""
        with _movable(self.holder, self.name):
            try:
                return bool(self._found())
            except PermissionError:
                if not self._force:
                    raise
                return True

    def _found(self) -> list[str]:
        """List what is in DEST, but for what every new filesystem has."""
        names = os.listdir(self.path)
        return [name for name in names if name != _LOST_AND_FOUND] if self._stays == _IS_MOUNT else names

    def _refuse_mounts(self) -> None:
        """Refuse to replace what has another filesystem in it, whose files would be removed with the old tree."""
        point = mounts.mounted_in(self.path)
        if point is not None:
            raise DestinationError(path=self.path, why=f"cannot be replaced: {quoted(point)} in it is a mount point")

    def close(self, *, done: bool) -> None:
        """Close the directory; if the tree has not appeared, leave it and all above as they were."""
        if self.holder >= 0:
            if self.inside and not done and self._before is not None:
                with suppress(OSError):
                    os.utime(self.holder, ns=(self._before.st_atime_ns, self._before.st_mtime_ns))
            os.close(self.holder)
            self.holder = -1
        for path in () if done else reversed(self._made_parents):
            with suppress(OSError):  # somebody else uses it by now
                os.rmdir(path)

    # -- after -------------------------------------------------------------------------------------------------------

    def replace(self, workspace: int, name: bytes) -> None:
        """Let a directory of the workspace appear as DEST, in one step; by force, whatever is there now.

        Raises:
            DestinationError: Something has come to DEST, or into it, in the meantime.
        """
        with _movable(workspace, name):
            if not self._occupied:
                try:
                    os.rename(name, self.name, src_dir_fd=workspace, dst_dir_fd=self.holder)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                        raise
                    if not self._force or error.errno == errno.ENOTDIR:
                        raise self._came_meanwhile() from None
                else:
                    return
            self._refuse_mounts()
            with _movable(self.holder, self.name):
                self._exchange(workspace, name)

    def _exchange(self, workspace: int, name: bytes) -> None:
        """Let the new tree and the old one trade places; the old one goes with the workspace."""
        if exchange(workspace, name, self.holder, self.name):
            return
        os.rename(self.name, _OLD, src_dir_fd=self.holder, dst_dir_fd=workspace)
        try:
            os.rename(name, self.name, src_dir_fd=workspace, dst_dir_fd=self.holder)
        except OSError:
            os.rename(_OLD, self.name, src_dir_fd=workspace, dst_dir_fd=self.holder)
            raise

    def fill(self, root: int, workspace: bytes, finish: Callable[[int], None]) -> None:
        """Move what is in a directory of the workspace up into DEST, which is finished then; all of it or nothing.

        These are a few renames and not one: a run that is killed among them leaves a part.

        Args:
            root: Descriptor of the directory, the root of the tree.
            workspace: Name of the workspace, which goes away.
            finish: Gives DEST, by its descriptor, the attributes of the root.

        Raises:
            DestinationError: Something has come into DEST in the meantime.
        """
        if set(self._found()) - {os.fsdecode(workspace)}:
            raise self._came_meanwhile()
        moved = []
        xattrs = self._xattrs()
        try:
            for child in map(os.fsencode, os.listdir(rewound(root))):
                with _movable(root, child):
                    os.rename(child, child, src_dir_fd=root, dst_dir_fd=self.holder)
                    moved.append(child)  # before it gets its mode back, which may fail
            remove_at(self.holder, workspace)
            for name in xattrs:  # as of every directory whose attributes a layer replaces
                with suppress(OSError):
                    os.removexattr(self.holder, name)
            finish(self.holder)
        except BaseException:
            self._restore(xattrs)
            for child in moved:
                remove_at(self.holder, child)
            raise

    def _xattrs(self) -> dict[str, bytes]:
        """Read those xattrs of DEST that an image could have set: its ACLs, and what users set."""
        try:
            names = [name for name in os.listxattr(self.holder) if name.startswith(("system.posix_acl_", "user."))]
            return {name: os.getxattr(self.holder, name) for name in names}
        except OSError:
            return {}

    def _restore(self, xattrs: Mapping[str, bytes]) -> None:
        """Give DEST back the attributes that it had."""
        if self._before is not None:
            with suppress(OSError):
                os.fchown(self.holder, self._before.st_uid, self._before.st_gid)
            with suppress(OSError):
                os.fchmod(self.holder, stat.S_IMODE(self._before.st_mode))
        for name, value in xattrs.items():
            with suppress(OSError):
                os.setxattr(self.holder, name, value)

    def _came_meanwhile(self) -> DestinationError:
        return DestinationError(path=self.path, why="has been filled by somebody else in the meantime")


def _followed(dest: str) -> str:
    """Give the real path of DEST, which may be a symbolic link.

    The kernel follows no link that somebody else has put into a directory like ``/tmp`` (fs.protected_symlinks); as it
    is not the kernel who follows here, the same rule is kept here: else whoever guesses DEST chooses where it is.  It
    holds without the sticky bit, too: there somebody else's link can take the place of DEST at any time.

    Raises:
        DestinationError: It is such a link.
    """
    for _ in range(_MOST_LINKS):
        head, name = os.path.split(dest.rstrip("/"))
        if name in ("", ".", ".."):
            return os.path.realpath(dest)
        path = os.path.join(os.path.realpath(head or "."), name)
        try:
            target = os.readlink(path)
            link, above = os.lstat(path), os.stat(os.path.dirname(path))
        except OSError:
            return path  # it is none, or not there
        if above.st_mode & stat.S_IWOTH and link.st_uid not in (os.geteuid(), above.st_uid):
            raise DestinationError(path=path, why="is a symbolic link of another user, where all may make links")
        dest = os.path.join(os.path.dirname(path), target)
    return dest  # a circle


_IS_MOUNT = "it is a mount point"
_IS_SUBVOLUME = "it is a subvolume"


def _why_it_stays(path: str, parent: str, status: os.stat_result) -> str | None:
    """Say why DEST cannot be replaced by a rename; None if it can."""
    if path == parent or mounts.is_mount(path):
        return _IS_MOUNT
    if _is_current(status):  # whoever stands in it would be left in a directory that is gone
        return "it is the current directory"
    above = os.stat(parent)
    sticky = above.st_mode & stat.S_ISVTX and os.geteuid() not in (0, above.st_uid, status.st_uid)
    if sticky or not os.access(parent, os.W_OK | os.X_OK):
        return "you may not rename it"
    return None


def _is_current(status: os.stat_result) -> bool:
    try:
        here = os.stat(".")
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (status.st_dev, status.st_ino)


@contextmanager
def _movable(parent: int, name: bytes) -> Iterator[None]:
    """Let something be renamed to elsewhere: a directory must be writable for that, and gets its mode back after it."""
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    place = f"/proc/self/fd/{descriptor}"
    lent = False
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode) and not os.access(place, os.W_OK):
            with suppress(OSError):  # it is somebody else's, and the rename will say so
                os.chmod(place, stat.S_IMODE(mode) | WORKING_MODE)
                lent = True
        yield
    finally:
        if lent:
            os.chmod(place, stat.S_IMODE(mode))
        os.close(descriptor)
