"""Snapshots for overlayfs: each keeps only what its layer changes, and the kernel, or a reader, puts them together."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING

from unpacker.errors import SnapshotStateError
from unpacker.layer.markers import Markers, SidecarMarkers, markers
from unpacker.snapshots.base import FILES, StoreSnapshotter
from unpacker.snapshots.encoding import choose_encoding
from unpacker.snapshots.mounts import bind_mount, overlay_mount
from unpacker.snapshots.short import short_name
from unpacker.snapshots.snapshotter import Kind
from unpacker.tree.attributes import Applier, implied
from unpacker.tree.finish import finish_root
from unpacker.tree.rights import make_directory

if TYPE_CHECKING:
    from unpacker.layer.below import Hidden
    from unpacker.layer.changes import Changes
    from unpacker.layer.rules import Rules
    from unpacker.snapshots.encoding import Encoding
    from unpacker.snapshots.mounts import Mount
    from unpacker.snapshots.record import SnapshotRecord
    from unpacker.snapshots.snapshotter import LayerSource
    from unpacker.tree.directory import Tree
    from unpacker.tree.private import Private

_WORK = "work"
_LONG_NAMES = 3072
"""Bytes of all names together from which on short ones are given: an upper directory's have to fit in as well."""


class OverlaySnapshotter(StoreSnapshotter):
    """Keeps one directory a layer, in the form that overlayfs reads (docs/formats.md).

    How whiteouts are written is found out by trying, when a layer is extracted (`unpacker.layer.markers`).
    """

    kind = "overlay"
    _encoding: Encoding | None = None
    """Tried once: it hangs on the caller and the filesystem, which stay."""

    def layers(self, name: str) -> list[SnapshotRecord]:
        """See `StoreSnapshotter`."""
        return self.chain(name)

    def mounts(self, key: str) -> list[Mount]:
        """See `Snapshotter`.

        One layer alone is no overlay for the kernel: it is mounted as it is.

        Raises:
            SnapshotNotFoundError: There is no such snapshot.
            SnapshotStateError: A layer says what it hides in a way that overlayfs cannot read.
        """
        path, record = self.catalog.find(key)
        active = record.kind is not Kind.COMMITTED
        below = self.chain(record.parent if active and record.parent else key) if record.parent or not active else []
        lowers = self._short([self.files(each.name) for each in below])
        userxattr = _userxattr(below)
        files = os.path.join(path, FILES)
        if record.kind is Kind.ACTIVE and lowers:
            return [overlay_mount(lowers, files, os.path.join(path, _WORK), userxattr=userxattr)]
        if len(lowers) > 1:
            return [overlay_mount(lowers, userxattr=userxattr)]
        return [bind_mount(lowers[0] if lowers else files, readonly=record.kind is not Kind.ACTIVE)]

    def _short(self, lowers: list[str]) -> list[str]:
        """Give the same directories under names that are short enough for the options of one mount, if need be."""
        if sum(len(os.fsencode(lower)) + 1 for lower in lowers) < _LONG_NAMES:
            return lowers
        return [short_name(self.catalog.root, lower) for lower in lowers]

    def _fill(self, place: Private, record: SnapshotRecord) -> None:
        """Make an upper directory, with the attributes of the root below, which it would hide."""
        with place.tree(FILES.encode()) as tree:
            wanted = implied()
            if record.parent is not None:
                with self.opened(record.parent) as stack:
                    wanted = stack.attributes(self._markers(place).stored)
            finish_root(tree.descriptor(tree.root), wanted, self._applier(place))
        make_directory(_WORK, holder=place.descriptor)

    def missing(self, path: str, record: SnapshotRecord) -> str:
        """See `StoreSnapshotter`."""
        del record
        return "" if os.path.isdir(os.path.join(path, _WORK)) else f"has no directory {_WORK}"

    def _encoding_of(self) -> str | None:
        """What the kernel has written: through ``userxattr`` where the caller may not use ``trusted``."""
        with self.catalog.staging() as place:
            return self._markers(place).encoding

    def _markers(self, place: Private) -> Markers:
        if self._encoding is None:
            self._encoding = choose_encoding(place.descriptor)
        return markers(self._encoding)

    def _applier(self, place: Private) -> Applier:
        return self._copier(place).applier

    def rules_in(self, place: Private, rules: Rules) -> Rules:
        """See `StoreSnapshotter`."""
        return super().rules_in(place, rules).changed(markers=self._markers(place))

    def _stage(self, place: Private, layer: LayerSource, parent: str | None, rules: Rules) -> SnapshotRecord:
        """See `StoreSnapshotter`."""
        from unpacker.layer import overlay  # noqa: PLC0415 -- to say how something is mounted, none of it is needed
        from unpacker.layer.apply import apply_layer  # noqa: PLC0415 -- as above

        marks = self._markers(place)
        with self.opened(parent) if parent is not None else nullcontext() as stack:
            if stack is not None and rules.memory is not None:
                stack.share(rules.memory)  # they keep a node for each directory that this layer speaks of

            def settled(own: Tree, hides: Hidden, changes: Changes) -> None:
                overlay.settle(own, hides, stack, marks)
                self._finish(own, layer, rules, changes.losses)

            made = layer.take(place, FILES.encode())
            changes = apply_layer(layer.stage, rules, place, FILES.encode(), stack, settled, made)
        sidecar = marks if isinstance(marks, SidecarMarkers) else SidecarMarkers()
        return self._record(place, layer, parent, rules, changes).changed(
            encoding=marks.encoding, whiteouts=tuple(sidecar.paths()), opaque=tuple(sorted(sidecar.opaque))
        )


def _userxattr(below: list[SnapshotRecord]) -> bool:
    """Whether the layers are to be mounted with ``userxattr``.

    Raises:
        SnapshotStateError: One of them cannot be mounted, or they cannot be mounted together.
    """
    encodings = {record.encoding: record.name for record in below}
    if "sidecar" in encodings:
        why = "says what it hides in its record only: it can be copied out (unpack --store), and not mounted"
        raise SnapshotStateError(name=encodings["sidecar"], why=why)
    if {"device", "user"} <= encodings.keys():
        why = "was made with privilege and others without it: they cannot be mounted together"
        raise SnapshotStateError(name=encodings["device"], why=why)
    return "user" in encodings
