"""Names of entries: paths as components, and the whiteouts among them (layer.md, Whiteouts).

Pure functions over bytes.  ``./a``, ``a``, ``/a``, ``a//b/..`` and ``a/`` all name one path; what climbs above the root
stays at it, as in a chroot.
"""

from __future__ import annotations

from enum import Enum

from unpacker.errors import LimitError, UnsafeEntryError, quoted
from unpacker.limits import DEFAULT, Limits

Components = list[bytes]

WHITEOUT = b".wh."
OPAQUE = b".wh..wh..opq"
AUFS = b".wh..wh."
LINK_STORE = b".wh..wh.plnk"
"""Where AUFS kept files with several names; layers that it wrote hold hard links into this directory."""

COMPONENT_MOST = 255
"""Bytes of one component, Linux's NAME_MAX."""


class Role(Enum):
    """What an entry is for, by its name alone."""

    PLAIN = "makes what it says"
    WHITEOUT = "hides one name of the layers below"
    OPAQUE = "hides all that the layers below have in its directory"
    LINK_STORE = "a file of AUFS that hard links of the layer may mean"
    DROPPED = "AUFS's own, which no tree ever shows"


def components(name: bytes) -> Components:
    """Give the components of a path, lexically; ``..`` at the root stays there."""
    found: Components = []
    for component in name.split(b"/"):
        if component == b"..":
            del found[-1:]
        elif component not in (b"", b"."):
            found.append(component)
    return found


def climbs(name: bytes) -> bool:
    """Whether a path leads above the root on its way, wherever it ends."""
    depth = 0
    for component in name.split(b"/"):
        if component == b"..":
            depth -= 1
            if depth < 0:
                return True
        elif component not in (b"", b"."):
            depth += 1
    return False


def check(path: Components, limits: Limits = DEFAULT) -> None:
    """Refuse what Linux has no name for, or none that programs can use.

    Raises:
        UnsafeEntryError: A component is longer than 255 bytes.
        LimitError: The path is longer than allowed, or leads through more directories.
    """
    if any(len(component) > COMPONENT_MOST for component in path):
        raise UnsafeEntryError(f"a component of more than {COMPONENT_MOST} bytes in the name")
    length = sum(map(len, path)) + len(path) - 1
    if length > limits.path_bytes:
        raise LimitError("path_bytes", limits.path_bytes, length, "bytes of a path")
    if len(path) - 1 > limits.path_depth:
        raise LimitError("path_depth", limits.path_depth, len(path) - 1, "directories in a path")


def role(path: Components) -> Role:
    """Tell whiteouts from files.

    Only a regular file should be a whiteout, but the name decides: no tree may ever show a name that begins with
    ``.wh.``, as the next program that makes a layer of it would turn it into a deletion.

    Raises:
        UnsafeEntryError: A whiteout that names nothing, or the directory itself, or its parent (umoci 0.4.7 removes the
            parent of its root filesystem for ``.wh...``); or something below a whiteout.
    """
    *parents, last = path
    for parent in parents:
        if parent.startswith(WHITEOUT):
            if not parent.startswith(AUFS):
                raise UnsafeEntryError(f"{quoted(parent)} is a whiteout, and nothing can be below one")
            return Role.LINK_STORE if parents == [LINK_STORE] else Role.DROPPED
    if not last.startswith(WHITEOUT):
        return Role.PLAIN
    if last == OPAQUE:
        return Role.OPAQUE
    if last.startswith(AUFS):
        return Role.DROPPED
    if last in (WHITEOUT, WHITEOUT + b".", WHITEOUT + b".."):
        raise UnsafeEntryError("a whiteout of nothing that has a name")
    return Role.WHITEOUT
