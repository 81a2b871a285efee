"""A snapshot store that is there, of whichever kind it is."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from unpacker.content.blob import read_regular
from unpacker.errors import StoreNotFoundError
from unpacker.limits import DEFAULT
from unpacker.snapshots.catalog import VERSION

if TYPE_CHECKING:
    from unpacker.snapshots.base import StoreSnapshotter

_DESCRIPTORS = "/proc/self/fd"
"""The only way to read the extended attributes of a symbolic link, or a device, in a directory that is open."""


def open_snapshotter(root: str | os.PathLike[str], *, create: bool = False, sync: bool = True) -> StoreSnapshotter:
    """Open a store as what it is.

    Args:
        root: The store's directory.
        create: Make one for overlayfs if there is none.
        sync: See `StoreSnapshotter`.

    Raises:
        StoreNotFoundError: There is none; a name that was mistyped must not become an empty store.
        UnsupportedError: It is of another format or kind, or something else altogether.
        OSError: It cannot be looked at, or used.
    """
    if create and not os.path.isdir(_DESCRIPTORS):  # else it would be found out in the middle, about some file
        raise OSError(errno.ENOENT, "not mounted, and what is made in a snapshot store needs it", "/proc")
    kind = _kind(os.fspath(root), create=create)
    if kind == "native":
        from unpacker.snapshots.native import NativeSnapshotter  # noqa: PLC0415 -- only one of the two is needed

        return NativeSnapshotter(root, sync=sync)
    from unpacker.snapshots.overlay import OverlaySnapshotter  # noqa: PLC0415 -- as above

    return OverlaySnapshotter(root, sync=sync)


def _kind(root: str, *, create: bool) -> str:
    """Give the last word of the file ``version``; whether the others are right is looked at by the catalog."""
    try:
        version = read_regular(os.path.join(root, VERSION), DEFAULT.document_bytes, "document_bytes")
    except (FileNotFoundError, NotADirectoryError):
        if create:
            return ""
        why = "no file version in it" if os.path.isdir(root) else "no such directory"
        raise StoreNotFoundError(path=root, why=why) from None
    return "".join(version.decode("ascii", "replace").split()[-1:])
