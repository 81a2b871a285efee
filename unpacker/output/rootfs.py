"""What both ways to a directory come to: a tree in a workspace, and what is to be told of it.

It is here since either way takes its time to import, and no run goes both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unpacker.layer.changes import Changes, Losses
    from unpacker.tree.directory import Tree


class Rootfs:
    """All layers of an image, or those so far.

    Attributes:
        name: Of the tree's directory in the workspace.
        tree: The tree; whoever has this closes it.
        losses: What could not be applied.
        entries: Tar entries applied, over all layers.
        tar_bytes: Bytes of the layers decompressed.
    """

    def __init__(self, name: bytes, tree: Tree, losses: Losses, entries: int = 0, tar_bytes: int = 0) -> None:
        self.name = name
        self.tree = tree
        self.losses = losses
        self.entries = entries
        self.tar_bytes = tar_bytes

    def add(self, changes: Changes) -> None:
        """Take over what a layer's record says."""
        self.losses.update(changes.losses)
        self.entries += changes.entries
        self.tar_bytes += changes.tar_bytes
