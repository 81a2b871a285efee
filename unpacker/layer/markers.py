"""How a layer's directory says what it hides, in overlayfs's own form (Documentation/filesystems/overlayfs.rst).

``device``
    A whiteout is a character device 0:0, an opaque directory has ``trusted.overlay.opaque=y``.  That takes privilege.
``user``
    A whiteout is an empty file with ``user.overlay.whiteout``, in a directory with ``user.overlay.opaque=x``; an opaque
    directory has ``user.overlay.opaque=y``.  Mounted with ``userxattr``; Linux 6.7.
``sidecar``
    Neither: both are lists in the snapshot's record, for filesystems and callers that can do nothing else.  Such a
    snapshot can be copied out, but not mounted.

A layer's own attributes in the namespace that overlayfs reads are stored escaped (``trusted.overlay.overlay.NAME``) and
shown as they were: an image could else hide, redirect or fill in files of the layers below with them.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Protocol

from unpacker.tree.rights import regain_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unpacker.tree.directory import Directory, Tree

_NO_ATTRIBUTE = frozenset({errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES})


class Markers(Protocol):
    """Writes and reads the markers of one layer."""

    encoding: str

    def hide(self, tree: Tree, directory: Directory, name: bytes) -> None:
        """Write a whiteout: nothing of this name shows through from below."""

    def hide_all(self, tree: Tree, directory: Directory) -> None:
        """Make a directory opaque: nothing in it shows through from below."""

    def is_whiteout(self, tree: Tree, directory: Directory, name: bytes, status: os.stat_result) -> bool:
        """Whether what has a name, of this status, is a whiteout."""

    def whiteouts(self, tree: Tree, directory: Directory) -> Iterable[bytes]:
        """Give the whiteouts of a directory that are nothing on disk."""

    def is_opaque(self, tree: Tree, directory: Directory) -> bool:
        """Whether a directory hides all below it."""

    def stored(self, attribute: bytes) -> bytes:
        """Give the name under which a layer's extended attribute is stored."""

    def shown(self, attribute: bytes) -> bytes | None:
        """Give the name of a stored attribute as the layer has it; None for a marker's own."""


class _Namespace:
    """Extended attributes of overlayfs in one namespace."""

    prefix: bytes

    def stored(self, attribute: bytes) -> bytes:
        if attribute.startswith(self.prefix):
            return self.prefix + b"overlay." + attribute.removeprefix(self.prefix)
        return attribute

    def shown(self, attribute: bytes) -> bytes | None:
        if not attribute.startswith(self.prefix):
            return attribute
        rest = attribute.removeprefix(self.prefix)
        return self.prefix + rest.removeprefix(b"overlay.") if rest.startswith(b"overlay.") else None

    def hide_all(self, tree: Tree, directory: Directory) -> None:
        os.setxattr(tree.descriptor(directory), self.prefix + b"opaque", b"y")

    def is_opaque(self, tree: Tree, directory: Directory) -> bool:
        return self._opaque(tree, directory) == b"y"

    def whiteouts(self, tree: Tree, directory: Directory) -> Iterable[bytes]:
        del tree, directory
        return ()

    def _opaque(self, tree: Tree, directory: Directory) -> bytes:
        return attribute(tree.descriptor(directory), self.prefix + b"opaque")


class DeviceMarkers(_Namespace):
    """See ``device`` above."""

    encoding = "device"
    prefix = b"trusted.overlay."

    def hide(self, tree: Tree, directory: Directory, name: bytes) -> None:
        """See `Markers`."""
        os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=tree.descriptor(directory))

    def is_whiteout(self, tree: Tree, directory: Directory, name: bytes, status: os.stat_result) -> bool:
        """See `Markers`."""
        del tree, directory, name
        return _is_device(status)


class UserMarkers(_Namespace):
    """See ``user`` above."""

    encoding = "user"
    prefix = b"user.overlay."

    def hide(self, tree: Tree, directory: Directory, name: bytes) -> None:
        """See `Markers`."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=tree.descriptor(directory))
        try:
            regain_file(descriptor)  # user.* is for those who may write by the mode
            os.setxattr(descriptor, self.prefix + b"whiteout", b"y")
        finally:
            os.close(descriptor)
        # Without it a lookup finds nothing, but readdir still lists the name.
        os.setxattr(tree.descriptor(directory), self.prefix + b"opaque", b"x")

    def is_whiteout(self, tree: Tree, directory: Directory, name: bytes, status: os.stat_result) -> bool:
        """See `Markers`; overlayfs itself writes a device for a whiteout, in such a mount too."""
        if _is_device(status):
            return True
        if not stat.S_ISREG(status.st_mode) or status.st_size or self._opaque(tree, directory) != b"x":
            return False
        place = os.fsencode(f"/proc/self/fd/{tree.descriptor(directory)}/") + name
        return bool(attribute(place, self.prefix + b"whiteout"))


class SidecarMarkers:
    """See ``sidecar`` above.

    Attributes:
        hidden: Paths of whiteouts.
        opaque: Paths of opaque directories.
    """

    encoding = "sidecar"

    def __init__(self, hidden: Iterable[bytes] = (), opaque: Iterable[bytes] = ()) -> None:
        self.hidden: dict[bytes, set[bytes]] = {}
        self.opaque = set(opaque)
        for path in hidden:
            directory, _, name = path.rpartition(b"/")
            self.hidden.setdefault(directory, set()).add(name)

    def paths(self) -> list[bytes]:
        """Give the paths of all whiteouts."""
        return sorted(
            directory + b"/" + name if directory else name for directory, names in self.hidden.items() for name in names
        )

    def hide(self, tree: Tree, directory: Directory, name: bytes) -> None:
        """See `Markers`."""
        del tree
        self.hidden.setdefault(directory.path(), set()).add(name)

    def hide_all(self, tree: Tree, directory: Directory) -> None:
        """See `Markers`."""
        del tree
        self.opaque.add(directory.path())

    def is_whiteout(self, tree: Tree, directory: Directory, name: bytes, status: os.stat_result) -> bool:
        """See `Markers`."""
        del tree, directory, name, status
        return False

    def whiteouts(self, tree: Tree, directory: Directory) -> Iterable[bytes]:
        """See `Markers`."""
        del tree
        return self.hidden.get(directory.path(), ())

    def is_opaque(self, tree: Tree, directory: Directory) -> bool:
        """See `Markers`."""
        del tree
        return directory.path() in self.opaque

    def stored(self, attribute: bytes) -> bytes:
        """See `Markers`; nobody but this program reads such a layer, so nothing needs escaping."""
        return attribute

    def shown(self, attribute: bytes) -> bytes | None:
        """See `Markers`."""
        return attribute


def _is_device(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


_KINDS: tuple[type[DeviceMarkers | UserMarkers | SidecarMarkers], ...] = (DeviceMarkers, UserMarkers, SidecarMarkers)
ENCODINGS = tuple(kind.encoding for kind in _KINDS)


def markers(encoding: str) -> Markers:
    """Give what writes this encoding.

    Raises:
        ValueError: There is no such encoding.
    """
    for kind in _KINDS:
        if kind.encoding == encoding:
            return kind()
    raise ValueError(f"no encoding of whiteouts is called {encoding}")


def attribute(target: int | bytes, name: bytes) -> bytes:
    """Give the value of an extended attribute, empty if there is none."""
    try:
        return os.getxattr(target, name, follow_symlinks=isinstance(target, int))
    except OSError as error:
        if error.errno not in _NO_ATTRIBUTE:
            raise
        return b""
