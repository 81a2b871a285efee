"""Settle: a staged layer meets the layers below it, in chain order.  Names move, data does not.

Four steps, each of them called once a layer::

    hidden     what the layer's whiteouts hide of the layers below
    agrees     whether what staging took for granted holds; if not, the layer is staged again with the view
    remove     what is hidden goes away          } where the layers are merged into one tree;
    merge      the layer's files move in         } `unpacker.layer.overlay` does both for layers that stay apart

Whiteouts go first, whatever their place in the archive, since they hide what is below and nothing of their own layer.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from unpacker.layer.below import Covered, Hidden
from unpacker.layer.walk import LoopError, Walk
from unpacker.limits import DEFAULT
from unpacker.tree.directory import Other, rewound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpacker.layer.below import Below, Path
    from unpacker.layer.changes import Changes
    from unpacker.tree.directory import Directory, Tree

_SOME = 50_000
"""Names that are read at a time, since a directory may have a million."""


def hidden(own: Tree, changes: Changes, below: Below, *, keep_dirlinks: bool = False) -> Hidden:
    """Find what a layer hides: its whiteouts, the links on their way followed, as far as they find anything.

    Shallow whiteouts come first, so that a directory which is hidden as a whole is no parent any more.
    """
    asked: dict[bytes, list[bytes] | None] = dict.fromkeys(changes.opaque)  # None: all that is in the directory
    for whiteout in changes.whiteouts:
        parent, _, name = whiteout.rpartition(b"/")
        names = asked.setdefault(parent, [])
        if names is not None:
            names.append(name)
    found = Hidden()
    if not asked:
        return found
    walk = _Below(Covered(below, found), own)
    for parent in sorted(asked, key=lambda path: (path.count(b"/"), path.replace(b"/", b"\0"))):
        path = tuple(parent.split(b"/")) if parent else ()
        if _is_void(path, own, changes, walk, keep_dirlinks=keep_dirlinks):
            continue
        directory = walk.to(path)
        if directory is None:
            continue
        names = asked[parent]
        if names is None:
            found.all.add(directory.path)
            continue
        for name in names:
            if directory.look(name) is not None or directory.skipped(name):
                found.names.setdefault(directory.path, set()).add(name)
    return found


def agrees(changes: Changes, below: Below) -> bool:
    """Whether a layer that was staged without a view means the same with these layers below it, hidden things left out.

    A directory that staging took for one of theirs may be a file there, which it then replaces, but no symbolic link:
    what is in it would belong behind the link.
    """
    if changes.unresolved is not None:
        return False
    before: Directory | None = None  # the one looked at last, and what is there: mostly the parent of the next one
    there: Below | None = None
    for node in changes.assumed:
        if node.parent is not before:
            there = _directory_at(below, b"" if node.parent is None else node.parent.path())
        found = None if there is None else there.look(node.name)
        if isinstance(found, bytes):
            return False
        before, there = node, None if isinstance(found, Other) else found
    return True


def remove(hides: Hidden, below: Tree) -> None:
    """Remove from a merged tree what a layer hides."""
    for path in [*hides.all, *hides.names]:
        directory = _node_at(below, path)
        if directory is None:
            continue
        for name in _all_names(below, directory) if path in hides.all else hides.names[path]:
            below.remove(directory, name)


def merge(own: Tree, below: Tree) -> None:
    """Move all that a layer has made into the tree of the layers below; ``own`` is empty or spent afterwards.

    Directories that both have become one, with the attributes of the layer's entry if there was one.  All else that has
    the same name below is replaced.
    """
    if own.root.attributes is not None:
        below.describe(below.root, own.root.attributes)
    pending = [(own.root, below.root)]
    spent: list[Directory] = []
    while pending:
        new, old = pending.pop()
        spent.append(new)
        for name in _all_names(own, new):
            child = new.children.get(name)
            there = old.children.get(name)
            if child is not None and there is not None and not child.opaque:
                if child.attributes is not None:
                    below.describe(there, child.attributes)
                pending.append((child, there))
                continue
            if there is not None:
                below.remove(old, name)
            try:
                own.move(new, name, below, old)
            except NotADirectoryError:  # a directory takes the place of a file
                below.remove(old, name)
                own.move(new, name, below, old)
    for directory in reversed(spent[1:]):  # the inner ones first; the root goes with whatever may be left
        own.remove_empty(directory)


class _Below:
    """Walks over the layers below alone."""

    def __init__(self, root: Covered, own: Tree) -> None:
        self._walk = Walk(own, root, known=True, assumed=[], most=DEFAULT.path_bytes)

    def to(self, path: Path) -> Covered | None:
        """Give the directory that a path leads to, symbolic links followed; None if it leads to none."""
        try:
            found = self._walk.below(list(path))
        except LoopError:
            return None
        return found if isinstance(found, Covered) else None


def _is_void(path: Path, own: Tree, changes: Changes, walk: _Below, *, keep_dirlinks: bool) -> bool:
    """Whether whiteouts stand below something that their own layer puts in the way of what is below.

    That is a file or a symbolic link which the layer itself has in the end (``umoci repack`` writes such whiteouts, and
    ``umoci unpack`` then deletes files through the link), or a directory of the layer in place of a link below.
    """
    here = own.root
    under = walk.to(())  # where the way so far leads to below
    for depth, name in enumerate(path, 1):
        child = here.children.get(name)
        skipped = b"/".join(path[:depth]) in changes.skipped
        if child is None:
            return skipped or own.look(here, name) is not None
        found = None if under is None else under.look(name)
        if isinstance(found, bytes):
            leads_to = walk.to(path[:depth])
            fresh = child.attributes is not None or child.opaque or skipped
            if fresh and not (keep_dirlinks and leads_to is not None):
                return True
            under = leads_to
        else:
            under = None if isinstance(found, Other) else found
        here = child
    return False


def _directory_at(below: Below, path: bytes) -> Below | None:
    """Give the directory at a path, without following a link on the way; None if there is none.

    Where something on the way is no directory, the layer has replaced it, or has been found to disagree already.
    """
    here = below
    for name in path.split(b"/") if path else ():
        found = here.look(name)
        if found is None or isinstance(found, bytes | Other):
            return None
        here = found
    return here


def _node_at(tree: Tree, path: Path) -> Directory | None:
    """Give the node at a real path; None if it has been removed with one above it."""
    node: Directory | None = tree.root
    for name in path:
        node = None if node is None else node.children.get(name)
    return node


def _all_names(tree: Tree, directory: Directory) -> Iterator[bytes]:
    """Yield what is in a directory, while what was yielded goes away, or stays there as a directory.

    A directory of which something goes away while it is read may leave names out, or have them twice (POSIX, readdir):
    so each time it is read from the start.
    """
    stay: set[bytes] = set()
    while True:
        with os.scandir(rewound(tree.descriptor(directory))) as found:
            names = (os.fsencode(entry.name) for entry in found)
            some = list(islice((name for name in names if name not in stay), _SOME))
        yield from some
        if len(some) < _SOME:
            return
        stay.update(name for name in some if name in directory.children)
