"""How a layer can say what it hides (`unpacker.layer.markers`) in some directory, found out by trying."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from unpacker.layer.markers import markers
from unpacker.tree.private import Private
from unpacker.tree.probe import TROUBLE

if TYPE_CHECKING:
    from unpacker.tree.directory import Directory, Tree

Encoding = Literal["device", "user", "sidecar"]
_READS_ATTRIBUTES = (6, 8)


def choose_encoding(directory: int) -> Encoding:
    """Choose the encoding: the first one that the caller can write in this directory.

    Nothing is mounted for it, which the caller may be unable to do though somebody else will.  So for ``user`` there is
    no trying whether the kernel reads it: one before 6.8 would show whiteouts as empty files, and a version that is at
    least this one is sure to.  `unpacker.snapshots.probe.encoding_works` mounts.

    Raises:
        OSError: Nothing can be made in the directory at all.
    """
    if _can_write(directory, "device"):
        return "device"
    if _kernel() >= _READS_ATTRIBUTES and _can_write(directory, "user"):
        return "user"
    return "sidecar"


def _can_write(directory: int, encoding: Encoding) -> bool:
    with Private(directory) as private, private.tree(b"probe") as tree:
        try:
            return write_probe(tree, encoding)
        except OSError as error:
            if error.errno in TROUBLE:
                raise
            return False


def write_probe(tree: Tree, encoding: Encoding) -> bool:
    """Write a layer that hides ``gone`` in its root and in ``merged``, and all in ``opaque``; whether it stayed."""
    marks = markers(encoding)
    merged, opaque = tree.make(tree.root, b"merged"), tree.make(tree.root, b"opaque")
    marks.hide_all(tree, opaque)
    for place in (tree.root, merged):
        marks.hide(tree, place, b"gone")
    return marks.is_opaque(tree, opaque) and all(_is_hidden(tree, place, encoding) for place in (tree.root, merged))


def _is_hidden(tree: Tree, place: Directory, encoding: Encoding) -> bool:
    status = os.stat(b"gone", dir_fd=tree.descriptor(place), follow_symlinks=False)
    return markers(encoding).is_whiteout(tree, place, b"gone", status)


def _kernel() -> tuple[int, ...]:
    """Give the version; a release that reads otherwise is an old one."""
    return tuple(int(part) for part in os.uname().release.split(".")[:2] if part.isdigit())
