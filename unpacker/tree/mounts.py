"""Where something is mounted, as this thread sees it, which may have left its process's mount namespace."""

from __future__ import annotations

import os
import re

from unpacker.tree.probe import TROUBLE

_OCTAL = re.compile(rb"\\([0-7]{3})")


def mount_points() -> frozenset[bytes]:
    """Give the paths of all mount points; none if /proc does not tell.

    Bind mounts are among them, which ``os.path.ismount`` does not see where they are on the same filesystem.

    Raises:
        OSError: It cannot be read at this moment.
    """
    try:
        with open("/proc/thread-self/mountinfo", "rb") as mounts:
            return frozenset(_unescaped(line.split(b" ")[4]) for line in mounts)
    except OSError as error:
        if error.errno in TROUBLE:  # to take it for "nothing is mounted" could cost what is
            raise
        return frozenset()


def _unescaped(path: bytes) -> bytes:
    """Put blanks, tabs, newlines and backslashes back, which the kernel writes in octal."""
    return _OCTAL.sub(lambda found: bytes([int(found[1], 8)]), path)


def is_mount(path: str) -> bool:
    """Whether a (real) path is a mount point.

    ``os.path.ismount`` takes every subvolume of btrfs for one, as its device differs from that above it.
    """
    points = mount_points()
    return (os.fsencode(path) in points or path == "/") if points else os.path.ismount(path)


def is_subvolume(path: str) -> bool:
    """Whether a (real) path has another device than what is above it, and is no mount point: a subvolume of btrfs."""
    return os.path.ismount(path) and not is_mount(path)


def mounted_in(path: str) -> bytes | None:
    """Give a mount point somewhere below a (real) path, if there is one: whoever removes what is there must not go on.

    Only this process's own mounts count; the kernel detaches those of others when their place is removed.
    """
    beneath = os.fsencode(path).rstrip(b"/") + b"/"
    return min((point for point in mount_points() if point.startswith(beneath)), default=None)
