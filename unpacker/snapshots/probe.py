"""What this caller, this kernel and this filesystem can mount, found out by mounting."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from unpacker.errors import MountError
from unpacker.snapshots import kernel
from unpacker.snapshots.encoding import write_probe
from unpacker.snapshots.idmaps import user_namespace
from unpacker.snapshots.mounting import temporary
from unpacker.snapshots.mounts import overlay_mount
from unpacker.tree.directory import OPEN_DIRECTORY
from unpacker.tree.owners import IdMap
from unpacker.tree.private import Private
from unpacker.tree.rights import make_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpacker.snapshots.encoding import Encoding


def encoding_works(directory: str | os.PathLike[str], encoding: Encoding) -> bool:
    """Whether the kernel hides what layers in a directory say that they hide, in a mount that the caller makes.

    Raises:
        OSError: Nothing can be made in the directory at all.
    """
    if encoding == "sidecar":
        return False
    with ExitStack() as stack:
        private = stack.enter_context(_private(directory))
        below, above = (stack.enter_context(private.tree(name)) for name in (b"below", b"above"))
        for place in (below.root, below.make(below.root, b"merged"), below.make(below.root, b"opaque")):
            make_directory(b"gone", 0o777, holder=below.descriptor(place))
        try:
            if not write_probe(above, encoding):
                return False
            lowers = [f"/proc/self/fd/{tree.descriptor(tree.root)}" for tree in (above, below)]
            with temporary([overlay_mount(lowers, userxattr=encoding == "user")]) as mounted:
                found = {name: os.listdir(os.path.join(mounted, name)) for name in sorted(os.listdir(mounted))}
        except (OSError, MountError):
            return False
    return found == {"merged": [], "opaque": []}


def overlay_works(directory: str | os.PathLike[str], *, userxattr: bool = False, writable: bool = True) -> bool:
    """Whether the caller may mount overlays of directories in this one.

    Args:
        directory: Where the layers would be, on their filesystem.
        userxattr: Whether with markers in ``user.overlay.*``, which takes Linux 5.11.
        writable: Whether with an upper directory: not every filesystem can hold one, overlayfs itself cannot.

    Raises:
        OSError: Nothing can be made in the directory at all.
    """
    with _private(directory) as private:
        names = ("a", "b", "upper", "work")
        for name in names:
            make_directory(name, 0o777, holder=private.descriptor)
        first, second, upper, work = (f"/proc/self/fd/{private.descriptor}/{name}" for name in names)
        written = (upper, work) if writable else (None, None)
        try:
            with temporary([overlay_mount([first, second], *written, userxattr=userxattr)]):
                return True
        except MountError:
            return False


def userxattr_supported() -> bool:
    """Whether the caller may mount overlays with ``userxattr``."""
    return overlay_works(tempfile.gettempdir(), userxattr=True, writable=False)


def idmap_works(directory: str | os.PathLike[str]) -> bool:
    """Whether the caller may mount this directory with other owners than there are on disk."""
    one = [IdMap(0, 0)]
    try:
        with user_namespace(one, one) as namespace:
            os.close(kernel.bind(os.path.realpath(directory), user_namespace=namespace))
    except OSError:
        return False
    return True


@contextmanager
def _private(directory: str | os.PathLike[str]) -> Iterator[Private]:
    holder = os.open(directory, OPEN_DIRECTORY)
    try:
        with Private(holder) as private:
            yield private
    finally:
        os.close(holder)
