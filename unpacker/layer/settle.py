"""Settle: a staged layer meets the layers below it, in chain order.  Names move, data does not.

Three steps, each of them called once a layer::

    hide      what the layer's whiteouts hide goes away below
    agrees    whether what staging took for granted holds; if not, the layer is staged again with the view
    merge     the layer's files move into the tree of the layers below, whole subtrees by one rename where they are new

Whiteouts go first, whatever their place in the archive, since they hide what is below and nothing of their own layer.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unpacker.layer.walk import LoopError, Walk
from unpacker.limits import DEFAULT

if TYPE_CHECKING:
    from unpacker.layer.changes import Changes
    from unpacker.tree.directory import Directory, Tree

Path = tuple[bytes, ...]


def hide(own: Tree, changes: Changes, below: Tree, *, keep_dirlinks: bool = False) -> None:
    """Remove from the tree of the layers below what a layer hides.

    Shallow whiteouts come first, so that a directory which is hidden as a whole is no parent any more.
    """
    hidden: dict[Path, list[bytes] | None] = {}  # None: all that is in the directory
    for parents in changes.opaque:
        hidden[tuple(parents)] = None
    for *parents, name in changes.whiteouts:
        names = hidden.setdefault(tuple(parents), [])
        if names is not None:
            names.append(name)
    if not hidden:
        return
    walk = _walk(below)
    for path in sorted(hidden, key=lambda path: (len(path), path)):
        if _is_void(path, own, below, walk, keep_dirlinks=keep_dirlinks):
            continue
        directory = _directory_at(walk, path)
        if directory is None:
            continue
        names = hidden[path]
        for name in _all_names(below, directory) if names is None else names:
            below.remove(directory, name)


def agrees(changes: Changes, below: Tree) -> bool:
    """Whether a layer that was staged without a view means the same with these layers below it.

    A directory that staging took for one of theirs may be a file there, which it then replaces, but no symbolic link:
    what is in it would belong behind the link.
    """
    if changes.unresolved is not None:
        return False
    return not any(_is_link(below, path.split(b"/")) for path in changes.assumed)


def merge(own: Tree, below: Tree) -> None:
    """Move all that a layer has made into the tree of the layers below; ``own`` is empty or spent afterwards.

    Directories that both have become one, with the attributes of the layer's entry if there was one.  All else that has
    the same name below is replaced.
    """
    if own.root.attributes is not None:
        below.root.attributes = own.root.attributes
    pending = [(own.root, below.root)]
    while pending:
        new, old = pending.pop()
        for name in _all_names(own, new):
            child = new.children.get(name)
            there = old.children.get(name)
            if child is not None and there is not None and not child.opaque:
                if child.attributes is not None:
                    there.attributes = child.attributes
                pending.append((child, there))
                continue
            if there is not None:
                below.remove(old, name)
            try:
                own.move(new, name, below, old)
            except (NotADirectoryError, FileExistsError):  # a directory takes the place of a file
                below.remove(old, name)
                own.move(new, name, below, old)


def _walk(tree: Tree) -> Walk:
    """Walk over a tree that has nothing below it."""
    return Walk(tree, None, known=True, assumed=[], most=DEFAULT.path_bytes)


def _directory_at(walk: Walk, path: Path) -> Directory | None:
    """Give the directory that a path leads to, symbolic links followed; None if it leads to none."""
    try:
        found = walk.to(list(path), make=False)
    except LoopError:
        return None
    return None if found is None else found.own


def _is_void(path: Path, own: Tree, below: Tree, walk: Walk, *, keep_dirlinks: bool) -> bool:
    """Whether whiteouts stand below something that their own layer puts in the way of what is below.

    That is a file or a symbolic link which the layer itself has in the end (``umoci repack`` writes such whiteouts, and
    ``umoci unpack`` then deletes files through the link), or a directory of the layer in place of a link below.
    """
    here = own.root
    for depth, name in enumerate(path, 1):
        child = here.children.get(name)
        if child is None:
            return own.look(here, name) is not None
        fresh = child.attributes is not None or child.opaque
        if fresh and _replaces_link(path[:depth], below, walk, keep_dirlinks=keep_dirlinks):
            return True
        here = child
    return False


def _replaces_link(path: Path, below: Tree, walk: Walk, *, keep_dirlinks: bool) -> bool:
    """Whether the layers below have a symbolic link where the layer makes a directory."""
    try:
        parent = walk.to(list(path[:-1]), make=False)
    except LoopError:
        return True
    if parent is None or parent.own is None or not isinstance(below.look(parent.own, path[-1]), bytes):
        return False
    return not (keep_dirlinks and _directory_at(walk, path) is not None)


def _is_link(tree: Tree, path: list[bytes]) -> bool:
    """Whether there is a symbolic link at a path, without following any on the way.

    Where something on the way is no directory, the layer has replaced it, or has been found to disagree already.
    """
    here = tree.root
    for name in path[:-1]:
        child = here.children.get(name)
        if child is None:
            return False
        here = child
    return isinstance(tree.look(here, path[-1]), bytes)


def _all_names(tree: Tree, directory: Directory) -> list[bytes]:
    """List what is in a directory."""
    return [os.fsencode(name) for name in os.listdir(tree.descriptor(directory))]
