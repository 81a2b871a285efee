"""Hard links between two directories, as far as a filesystem has them; and symbolic links."""

from __future__ import annotations

import errno
import os

# What link says where a filesystem has no hard links, or no more for this file, or the kernel protects the target.
_REFUSED = frozenset({errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOTSUP, errno.ENOSYS})


def link(source: int, name: bytes, into: int, new: bytes) -> str | None:
    """Give a file one more name; where it cannot have one, give the reason: a copy has to do then.

    Args:
        source: Descriptor of the directory that it is in.
        name: Its name there.
        into: Descriptor of the directory that it shall be in as well.
        new: The name there.

    Raises:
        FileExistsError: The new name is taken.
        OSError: It failed, and not for being a link.
    """
    try:
        os.link(name, new, src_dir_fd=source, dst_dir_fd=into, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        size = os.stat(name, dir_fd=source, follow_symlinks=False).st_size
        return f"copied ({size} B), not linked: {os.strerror(error.errno)}"
    return None


def symlink(target: bytes, directory: int, name: bytes) -> None:
    """Make a symbolic link; an error calls it by its own name, not by a target of thousands of bytes.

    Raises:
        FileExistsError: The name is taken.
        OSError: It failed: XFS takes 1,023 bytes of a target.
    """
    try:
        os.symlink(target, name, dir_fd=directory)
    except OSError as error:
        named = OSError(error.errno, error.strerror, name)
        if error.errno == errno.ENAMETOOLONG:
            named.add_note(f"a symbolic link with a target of {len(target)} bytes")
        raise named from None
