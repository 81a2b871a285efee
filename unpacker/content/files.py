"""Small files inside a layout: directories that no link leads out of, and files that are replaced whole.

Who made a layout may want our writes to land somewhere else, so below its root no link is followed.  What is replaced
is written beside it, brought to the disk, and put in place by one rename: whoever reads sees the old file or the new
one, whenever the power goes.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from unpacker.tree.rights import make_directory, regain_file

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_NAMELESS = frozenset({errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT})
# The name is taken; /proc is not mounted; this filesystem has no links.
_NOT_LINKED = frozenset({errno.EEXIST, errno.ENOENT, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV})


def open_directory(name: str, parent: int | None = None, *, make: bool = False) -> int:
    """Open a directory, which the caller closes: a root by its path, or one below another.

    Args:
        name: Its path, or its name in ``parent``.
        parent: The descriptor of the directory that it is in; without one links are followed.
        make: Make it if it is not there.

    Raises:
        FileNotFoundError: It is not there.
        NotADirectoryError: It is something else, such as a link.
        OSError: It cannot be opened, or made.
    """
    if make:
        with suppress(FileExistsError):
            make_directory(name, 0o755, holder=parent)
            if parent is not None:
                os.fsync(parent)
    return os.open(name, _DIRECTORY | (0 if parent is None else _NO_LINK), dir_fd=parent)


@contextmanager
def directory(name: str, parent: int | None = None, *, make: bool = False) -> Iterator[int]:
    """Hold a directory open, see `open_directory`."""
    fd = open_directory(name, parent, make=make)
    try:
        yield fd
    finally:
        os.close(fd)


def replace(parent: int, name: str, data: bytes, *, sync: bool = True) -> None:
    """Put a file in place whole, and durably once the caller has brought its directory to the disk as well.

    The caller has a lock: two at once would write the same temporary file.  What is there keeps its permissions.

    Args:
        parent: Its directory.
        name: Its name there.
        data: What shall be in it.
        sync: Whether it must outlive a power cut; if not, it may be found empty, or full of zeros.
    """
    temporary = f".{name}.new"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=parent)  # Left by a writer that was killed.
    mode = _mode(parent, name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o644 if mode is None else mode, dir_fd=parent)
    try:
        with open(fd, "wb") as file:
            if mode is None:
                regain_file(fd)
            else:
                os.fchmod(fd, mode)
            file.write(data)
            file.flush()
            if sync:
                os.fsync(fd)
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        os.unlink(temporary, dir_fd=parent)
        raise


def create(parent: int, name: str, data: bytes) -> bool:
    """Put a file in place whole and durably if none is there; for that nobody needs a lock, and a kill leaves nothing.

    False if there is one, or if this filesystem has no files without names (O_TMPFILE): `replace` does it then.
    """
    try:
        fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent)
    except OSError as error:
        if error.errno not in _NO_NAMELESS:
            raise
        return False
    with open(fd, "wb") as file:
        regain_file(fd)
        file.write(data)
        file.flush()
        os.fsync(fd)
        try:
            os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=parent)
        except OSError as error:
            if error.errno not in _NOT_LINKED:
                raise
            return False
    return True


def _mode(parent: int, name: str) -> int | None:
    try:
        return stat.S_IMODE(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None


def sweep(parent: int, pattern: str) -> int:
    """Remove what killed processes left while they replaced files whose names match; the caller has the lock."""
    left = [name for name in os.listdir(parent) if re.fullmatch(rf"\.(?:{pattern})\.new", name)]
    for name in left:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
    return len(left)


def read_text(parent: int, name: str, most: int = 64 << 10) -> str | None:
    """Read a small file of UTF-8 text; None if it is not there, or is nothing of the kind."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    with open(fd, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        data = file.read(most + 1)
    try:
        return data.decode() if len(data) <= most else None
    except UnicodeDecodeError:
        return None
