"""Copy-up: a file of a layer below comes into the layer at work, under all names that it has.

A hard link to it would otherwise be a link between two layers, which no filesystem has between two directories of an
overlay.  All its names come along, or some of them would stay behind with the old file and be another one from then on.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unpacker.layer.walk import Place, Walk

if TYPE_CHECKING:
    from unpacker.layer.stack import StackedFile
    from unpacker.tree.copy import Copier
    from unpacker.tree.directory import Tree


def copy_up(place: Place, name: bytes, *, walk: Walk, tree: Tree, copier: Copier, path: bytes) -> None:
    """Copy a file up; afterwards the layer at work has it itself, under the same path.

    Args:
        place: The directory that it is in, below.
        name: Its name there.
        walk: Where paths lead.
        tree: The layer's own tree.
        copier: Copies.
        path: What losses call it.
    """
    file = _file(place, name)
    if file is None:
        raise FileNotFoundError(name)
    identity = file.identity()
    first: tuple[Place, bytes] | None = None
    for known in list(file.paths()):
        *parents, last = known.split(b"/")
        directory = _visible(walk, parents)
        if directory is None or (directory.own is not None and tree.look(directory.own, last) is not None):
            continue
        found = _file(directory, last)
        if found is None or found.identity() != identity:
            continue
        made = walk.to(parents, make=True)
        if made is None:
            continue
        with tree.held(made.node) as into:
            if first is None:
                copier.copy(file.layer.tree.descriptor(file.node), file.name, into, last, path)
                first = made, last
            else:
                source = tree.descriptor(first[0].node)
                os.link(first[1], last, src_dir_fd=source, dst_dir_fd=into, follow_symlinks=False)


def _visible(walk: Walk, path: list[bytes]) -> Place | None:
    """Give the directory at a path on which no symbolic link is followed; None if there is none."""
    place = walk.root
    for name in path:
        found = walk.look(place, name)
        if not isinstance(found, Place):
            return None
        place = found
    return place


def _file(place: Place, name: bytes) -> StackedFile | None:
    return None if place.below is None else place.below.file(name)
