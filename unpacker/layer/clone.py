"""A stack of layers out of a store, copied into one tree: what overlayfs would show, as files of its own."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from unpacker.errors import quoted
from unpacker.events import LossKind
from unpacker.layer.stack import Stack
from unpacker.tree import links
from unpacker.tree.copy import is_stored_otherwise
from unpacker.tree.folding import FoldingTree

if TYPE_CHECKING:
    from unpacker.tree.copy import Copier
    from unpacker.tree.directory import Directory, Tree

_ENTRY = 512
"""Bytes that each name counts for, as in an archive."""
_KNOWN = 300
"""Bytes of memory that a file takes that has several names."""


def clone(stack: Stack, tree: Tree, copier: Copier, *, link: bool = False) -> int:
    """Copy all that a stack shows into an empty tree, whose directories wait for their attributes then.

    Args:
        stack: The root of what is to be copied.
        tree: The tree.
        copier: Copies files: by reflink where that can be.
        link: Make hard links instead of copies: fast, and whoever writes to one writes into the store.  What is not
            stored as it should be seen is copied all the same.

    Returns:
        How many files and directories there are.
    """
    count = 0
    stack.share(tree.memory)
    tree.describe(tree.root, stack.attributes())
    known: dict[tuple[int, int], tuple[Directory, bytes]] = {}  # files with several names, by device and inode
    waiting = [(stack, tree.root)]
    node, name, path = tree.root, b"", b""
    try:
        while waiting:
            under, node = waiting.pop()
            prefix = node.path() + b"/" if node.parent else b""
            for name, found in under.entries():
                count += 1
                copier.on_copy(_ENTRY)
                path = prefix + name
                if isinstance(found, Stack):
                    child = tree.make(node, name)
                    tree.describe(child, found.attributes())
                    waiting.append((found, child))
                    continue
                layer, holder = found
                source = layer.tree.descriptor(holder)
                into = tree.descriptor(node)
                if link and not is_stored_otherwise(source, name, layer.markers.shown):
                    try:
                        os.link(name, name, src_dir_fd=source, dst_dir_fd=into, follow_symlinks=False)
                        continue
                    except OSError as error:
                        if error.errno != errno.EMLINK:  # ext4: 65,000 names of one file; this one is copied then
                            raise
                status = os.stat(name, dir_fd=source, follow_symlinks=False)
                if status.st_nlink > 1:
                    key = status.st_dev, status.st_ino
                    if key not in known:
                        tree.remember(_KNOWN)
                    first, earlier = known.setdefault(key, (node, name))
                    if (first, earlier) != (node, name):
                        with tree.held(node) as held:
                            why = links.link(tree.descriptor(first), earlier, held, name)
                        if why is None:
                            continue
                        copier.applier.on_loss(LossKind.LINK, path, why)
                        known[key] = node, name  # the names to come are links to this copy
                        into = tree.descriptor(node)
                copier.copy(source, name, into, name, path, layer.markers.shown, status)
    except OSError as error:
        if isinstance(error, FileExistsError) and isinstance(tree, FoldingTree):
            tree.refuse_twin(node, name)
        error.add_note(f"entry {quoted(path)}")
        raise
    return count
