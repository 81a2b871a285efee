"""What of a stack of layers a caller without privilege must lose: straight from the entries, as the reference model.

Such a caller gives no file away and makes no device (docs/fidelity.md, "Without privilege").  The tree without both is
what it must have, and the report must count no loss more and none less.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.model.reference import Inode, MergedTree, apply_layer, sort
from unpacker.events import LossKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.model.reference import Layer
    from tests.support.tarbuild import Entry
    from tests.support.tree import Tree

DEVICES = frozenset({"char", "block"})


class Watched(MergedTree):
    """A tree that remembers which hard links mean a device: who cannot make the one cannot make the others."""

    def __init__(self, *, keep_dirlinks: bool) -> None:
        super().__init__(keep_dirlinks=keep_dirlinks)
        self.links_to_devices: set[int] = set()

    def link_target(self, entry: Entry) -> Inode | None:
        """Find what a hard link is another name of."""
        target = super().link_target(entry)
        if target is not None and target.kind in DEVICES:
            self.links_to_devices.add(id(entry))
        return target


class Losses:
    """What must be lost of a stack.

    Args:
        stack: The layers; none that the reference model refuses.
        owners: Whether the caller may give files away.
        devices: Whether it may make device nodes.
        keep_dirlinks: As `reference.apply` has it.
    """

    def __init__(self, stack: Sequence[Layer], *, owners: bool, devices: bool, keep_dirlinks: bool = False) -> None:
        self.owners = owners
        self.devices = devices
        self._own = (os.geteuid(), os.getegid())
        self._stack = stack
        self._merged = Watched(keep_dirlinks=keep_dirlinks)
        for layer in stack:
            apply_layer(self._merged, layer)

    def tree(self) -> Tree:
        """Give the tree that is left: all files are the caller's own, and there are no devices."""
        whole = self._merged.as_tree()
        if not self.devices:
            whole = {path: node for path, node in whole.items() if node.kind not in DEVICES}
        if self.owners:
            return whole
        uid, gid = self._own
        return {path: replace(node, uid=uid, gid=gid) for path, node in whole.items()}

    def counts(self) -> dict[LossKind, int]:
        """Give what an unpack straight to DEST must count: each file that is made, each directory that is left."""
        found: Counter[LossKind] = Counter()
        if not self.devices:
            found[LossKind.DEVICE] = self._devices()
        if not self.owners:
            found[LossKind.OWNER] = self._made() + self._directories()
        return dict(+found)

    def _devices(self) -> int:
        nodes = sum(entry.kind in DEVICES for layer in self._stack for entry in sort(layer).plain)
        return nodes + len(self._merged.links_to_devices)

    def _made(self) -> int:
        """Count the files of other owners, those that AUFS keeps for links too; a link has the owner of its file."""
        count = 0
        for layer in self._stack:
            found = sort(layer)
            left_out = {"directory", "hardlink"} | (set() if self.devices else DEVICES)
            made = [(entry.uid, entry.gid) for entry in found.plain if entry.kind not in left_out]
            count += sum(owner != self._own for owner in made)
        return count

    def _directories(self) -> int:
        directories = [self._merged.root, *(inode for *_, inode in self._merged.names() if inode.is_directory)]
        return sum((inode.uid, inode.gid) != self._own for inode in directories)
