"""Private directories in which things are made before they appear under their names.

``0700`` all the time, as what is made in one may be setuid and is not verified yet.  Its maker holds a lock on it,
which the kernel gives back when the process ends, however it ends: one that nobody holds is rubbish, and is swept.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from unpacker.tree.directory import OPEN_DIRECTORY, WORKING_MODE, Tree, rewound
from unpacker.tree.probe import TROUBLE
from unpacker.tree.remove import remove_at
from unpacker.tree.rights import make_directory, regain_file

if TYPE_CHECKING:
    from typing import Self

_INHERITED_ACLS = ("system.posix_acl_default", "system.posix_acl_access")
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EBADF})


class Private:
    """One such directory; a context manager that removes it, unless it was moved away.

    Args:
        holder: Descriptor of the directory that it is made in, where nobody else may write.

    Attributes:
        descriptor: Its own descriptor.
    """

    def __init__(self, holder: int) -> None:
        self._holder = holder
        self._name = b""
        self._moved = False
        self.descriptor = -1

    def __enter__(self) -> Self:
        self._name, self.descriptor = make_private(self._holder, b"", 8)
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            if not self._moved:
                remove_at(self._holder, self._name)
        finally:  # Closing it lets go of the lock: what could not be removed is for whoever sweeps.
            os.close(self.descriptor)
            self.descriptor = -1

    def tree(self, name: bytes) -> Tree:
        """Make an empty directory in it, as the root of a tree; whoever asks closes it."""
        return Tree(new_directory_in(self.descriptor, name))

    def opened(self, name: bytes) -> Tree:
        """Open a tree in it that was made before; whoever asks closes it."""
        return tree_in(self.descriptor, name)

    def new_file(self, name: bytes) -> io.FileIO:
        """Make a file in it, to be written; whoever asks closes it."""
        return new_file_in(self.descriptor, name)

    def file(self, name: bytes) -> io.FileIO:
        """Open a file in it, to be read; whoever asks closes it."""
        return file_in(self.descriptor, name)

    def discard(self, name: bytes) -> None:
        """Remove something in it."""
        remove_at(self.descriptor, name)

    def move(self, directory: int, name: str) -> None:
        """Let it appear, with all that is in it, under another name; it must not be there."""
        os.rename(self._name, name, src_dir_fd=self._holder, dst_dir_fd=directory)
        self._moved = True


def new_directory_in(directory: int, name: bytes) -> int:
    """Make a directory in a private one, and open it; whoever asks closes it.

    Raises:
        OSError: One of the two failed, and it is not there: whoever tries again would take it for somebody else's.
    """
    make_directory(name, holder=directory)
    try:
        return os.open(name, OPEN_DIRECTORY, dir_fd=directory)
    except BaseException:
        os.rmdir(name, dir_fd=directory)
        raise


def tree_in(directory: int, name: bytes) -> Tree:
    """Open a directory in a private one as the root of a tree; whoever asks closes it."""
    return Tree(os.open(name, OPEN_DIRECTORY, dir_fd=directory))


def new_file_in(directory: int, name: bytes) -> io.FileIO:
    """Make a file in a private directory, to be written; whoever asks closes it."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    file = io.FileIO(os.open(name, flags, 0o600, dir_fd=directory), "w")
    try:
        regain_file(file.fileno())
    except BaseException:
        file.close()
        raise
    return file


def file_in(directory: int, name: bytes) -> io.FileIO:
    """Open a file in a private directory, to be read; whoever asks closes it."""
    return io.FileIO(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory))


def sweep(holder: int) -> int:
    """Remove what killed processes have left in a directory of private ones; give how many there were."""
    swept = 0
    for name in os.listdir(rewound(holder)):
        with suppress(FileNotFoundError, NotADirectoryError):
            descriptor = os.open(name, OPEN_DIRECTORY, dir_fd=holder)
            try:
                if lock(descriptor, unknown=False):
                    remove_at(holder, name)
                    swept += 1
            finally:
                os.close(descriptor)
    return swept


def make_private(holder: int, prefix: bytes, random: int) -> tuple[bytes, int]:
    """Make a directory, named by chance behind a prefix, and lock it; give its name, and its descriptor.

    Raises:
        OSError: It cannot be made; nothing is left of it.
    """
    while True:
        name = prefix + os.urandom(random).hex().encode()
        make_directory(name, holder=holder)
        descriptor, kept = -1, False
        try:
            descriptor = os.open(name, OPEN_DIRECTORY, dir_fd=holder)
            # Another process that sweeps may have met it before it was locked.
            if lock(descriptor) and is_at(holder, name, descriptor):
                _take(descriptor)
                kept = True
                return name, descriptor
        except FileNotFoundError:
            continue
        except BaseException:
            with suppress(OSError):
                os.rmdir(name, dir_fd=holder)
            raise
        finally:
            if descriptor >= 0 and not kept:
                os.close(descriptor)


def lock(descriptor: int, *, unknown: bool = True) -> bool:
    """Lock a directory for this process, without waiting; False if another one has it.

    Where there are no locks (NFS has none on directories), nobody can say, and ``unknown`` is the answer.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return unknown
    return True


def is_at(holder: int, name: bytes, descriptor: int) -> bool:
    """Whether an open directory still has its name."""
    try:
        found = os.stat(name, dir_fd=holder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def _take(descriptor: int) -> None:
    """Make a new directory the caller's alone, whatever its parent handed down.

    A setgid parent hands down its group, one with a default ACL its ACL: files would be made with both.
    """
    own = (os.geteuid(), os.getegid())
    status = os.fstat(descriptor)
    if (status.st_uid, status.st_gid) != own:
        with suppress(OSError):  # some filesystems give every file to whom their mount options say
            os.fchown(descriptor, *own)
    for name in _INHERITED_ACLS:
        try:
            os.removexattr(descriptor, name)
        except OSError as error:  # mostly there is none
            if error.errno in TROUBLE:
                raise
    os.fchmod(descriptor, WORKING_MODE)
