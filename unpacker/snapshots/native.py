"""Snapshots that are whole trees: each has all files of its parents, by reflink where the filesystem shares blocks.

They need no overlayfs to be used, take their space once a layer where blocks cannot be shared, and show what a stack of
layers must look like when the kernel puts it together.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unpacker.layer.clone import clone
from unpacker.limits import DEFAULT
from unpacker.snapshots.base import FILES, StoreSnapshotter
from unpacker.snapshots.mounts import bind_mount
from unpacker.snapshots.snapshotter import Kind
from unpacker.tree.attributes import implied
from unpacker.tree.finish import finish_directories, finish_root
from unpacker.tree.room import Room

if TYPE_CHECKING:
    from unpacker.layer.rules import Rules
    from unpacker.limits import Limits
    from unpacker.snapshots.mounts import Mount
    from unpacker.snapshots.record import SnapshotRecord
    from unpacker.snapshots.snapshotter import LayerSource
    from unpacker.tree.directory import Tree
    from unpacker.tree.private import Private


_LAYER = b"layer"


class NativeSnapshotter(StoreSnapshotter):
    """Keeps one whole tree a snapshot."""

    kind = "native"

    def layers(self, name: str) -> list[SnapshotRecord]:
        """See `StoreSnapshotter`: one has it all."""
        return self.chain(name)[:1]

    def mounts(self, key: str) -> list[Mount]:
        """See `Snapshotter`."""
        path, record = self.catalog.find(key)
        return [bind_mount(os.path.join(path, FILES), readonly=record.kind is not Kind.ACTIVE)]

    def _encoding_of(self) -> str | None:
        return None

    def _fill(self, place: Private, record: SnapshotRecord) -> None:
        """Copy the parent; a view of it as well, as what is mounted writable could be written to."""
        with place.tree(FILES.encode()) as tree:
            self._copy(tree, record.parent, place, DEFAULT)
            applier = self._copier(place).applier
            finish_directories(tree, applier)
            finish_root(tree.descriptor(tree.root), tree.root.attributes or implied(), applier)

    def _copy(self, tree: Tree, parent: str | None, place: Private, limits: Limits) -> None:
        """Copy a snapshot into an empty tree, whose directories wait for their attributes then."""
        if parent is not None:
            copier = self._copier(place)
            copier.on_copy = Room(tree.descriptor(tree.root), limits.free_bytes).take
            with self.opened(parent) as stack:
                clone(stack, tree, copier)

    def _stage(self, place: Private, layer: LayerSource, parent: str | None, rules: Rules) -> SnapshotRecord:
        """See `StoreSnapshotter`."""
        from unpacker.layer.merge import merge_layer  # noqa: PLC0415 -- as in `OverlaySnapshotter`

        skipped: set[bytes] = set()
        if parent is not None:
            skipped.update(*(record.skipped for record in self.layers(parent)))
        with place.tree(FILES.encode()) as tree:
            if rules.memory is not None:
                tree.share(rules.memory)
            self._copy(tree, parent, place, rules.limits)
            made = layer.take(place, _LAYER)
            changes = merge_layer(
                layer.stage, rules, place, tree, skipped, empty=parent is None, name=_LAYER, made=made
            )
            self._finish(tree, layer, rules, changes.losses)
        changes.skipped |= skipped
        return self._record(place, layer, parent, rules, changes)
