"""Mounts made of descriptors and put in place when they are complete: Linux 6.13 for overlays, 5.12 for binds.

No name of a layer is escaped, cut at the end of a page or looked up twice, and mountinfo shows the real paths.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unpacker.snapshots import kernel

if TYPE_CHECKING:
    from unpacker.snapshots.options import Request

OPEN_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


def layer(path: str, namespace: int | None) -> int:
    """Give a descriptor of a directory, or of a mount of it with its owners mapped, which is nowhere yet."""
    try:
        return os.open(path, OPEN_PLACE) if namespace is None else kernel.bind(path, user_namespace=namespace)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None


def _attributes(request: Request) -> int:
    return sum(kernel.ATTRIBUTES[flag] for flag in request.flags)


def overlay(request: Request, namespace: int | None) -> int:
    """Give a descriptor of an overlay, which is nowhere yet.

    Args:
        request: What to mount.
        namespace: Descriptor of a user namespace by which the owners in the layers are mapped.
    """
    with kernel.Filesystem("overlay") as filesystem:
        filesystem.set("source", request.source)
        if "ro" in request.flags:
            filesystem.set("ro", None)
        for key, value in request.data:
            filesystem.set(key, value)
        for path in request.lowers:
            _hand_over(filesystem, "lowerdir+", path, namespace)
        if request.upper is not None and request.work is not None:
            _hand_over(filesystem, "upperdir", request.upper, None)
            _hand_over(filesystem, "workdir", request.work, None)
        return filesystem.mount(_attributes(request))


def _hand_over(filesystem: kernel.Filesystem, key: str, path: str, namespace: int | None) -> None:
    descriptor = layer(path, namespace)
    try:
        filesystem.set(key, descriptor)
    finally:
        os.close(descriptor)


def bind(request: Request, namespace: int | None) -> int:
    """Give a descriptor of a bind mount, which is nowhere yet: nobody ever sees it writable, or with wrong owners."""
    return kernel.bind(request.source, _attributes(request), user_namespace=namespace, recursive=request.recursive)
