"""What the snapshotters have in common: all but how files are kept and mounted."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from unpacker.errors import DocumentError, SnapshotNotFoundError, SnapshotStateError, quoted
from unpacker.layer.markers import SidecarMarkers, markers
from unpacker.layer.rules import Rules
from unpacker.layer.stack import Part, Stack, StackedLayer
from unpacker.limits import DEFAULT, Limits
from unpacker.snapshots.catalog import Catalog, opened
from unpacker.snapshots.record import SnapshotRecord
from unpacker.snapshots.snapshotter import Info, Kind, Usage
from unpacker.spec import labels as labelling
from unpacker.tree.attributes import Applier, implied
from unpacker.tree.copy import Copier
from unpacker.tree.directory import MOST_OPEN, OPEN_DIRECTORY, Directory, Memory
from unpacker.tree.disk import DiskTree
from unpacker.tree.finish import finish_directories, finish_root
from unpacker.tree.owners import Owners
from unpacker.tree.probe import may_chown, may_read_all, umask
from unpacker.tree.sync import sync_filesystem
from unpacker.tree.whereabouts import at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Self

    from unpacker.events import LossKind
    from unpacker.layer.changes import Changes, Losses
    from unpacker.snapshots.mounts import Mount
    from unpacker.snapshots.snapshotter import LayerSource
    from unpacker.tree.directory import Tree
    from unpacker.tree.lock import Holder
    from unpacker.tree.private import Private

FILES = "fs"


class StoreSnapshotter(ABC):
    """A snapshotter over a `Catalog`; a context manager that closes it.

    Args:
        root: The store's directory; made if it is not there.
        sync: Whether what is committed is written to the disk before it appears.
    """

    kind: str

    def __init__(self, root: str | os.PathLike[str], *, sync: bool = True) -> None:
        self.catalog = Catalog(root, self.kind, sync=sync)
        self._sync = sync

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.catalog.root}>"

    # -- what is there -------------------------------------------------------------------------------------------------

    def stat(self, name: str) -> Info:
        """See `Snapshotter`."""
        return self.catalog.find(name)[1].info

    def update(self, info: Info, *fieldpaths: str) -> Info:
        """See `Snapshotter`."""
        with self.catalog.lock("gc"):
            _, record = self.catalog.find(info.name)
            changed = labelling.updated(record.labels, info.labels, fieldpaths)
            record = record.changed(labels=changed, updated=time.time_ns())
            self.catalog.replace(record)
        return record.info

    def usage(self, name: str) -> Usage:
        """See `Snapshotter`."""
        path, record = self.catalog.find(name)
        return record.usage or self._measured(name, path)

    def walk(self, *filters: str) -> Iterator[Info]:
        """See `Snapshotter`; filters are containerd's, on name, parent, kind and ``labels.KEY``.

        Raises:
            DocumentError: A record is damaged; that is said after all others have been given.
        """
        from unpacker.spec.filters import parse  # noqa: PLC0415 -- few runs ask

        matches = parse(filters, ("name", "parent", "kind", "labels"))
        found: list[SnapshotRecord] = []
        damaged: DocumentError | None = None
        try:
            for record in self.catalog.records():
                found.append(record)  # noqa: PERF402 -- those before the error as well
        except DocumentError as error:
            damaged = error
        for record in found:
            if matches(partial(_field, record.info)):
                yield record.info
        if damaged is not None:
            raise damaged

    def chain(self, name: str) -> list[SnapshotRecord]:
        """Give a committed snapshot and all that it stands on, topmost first.

        Raises:
            SnapshotNotFoundError: One of them is not there.
            SnapshotStateError: It is not committed; or, by a damaged record, it stands on itself.
        """
        found: list[SnapshotRecord] = []
        met: set[str] = set()
        wanted: str | None = name
        while wanted is not None:
            if wanted in met:
                raise SnapshotStateError(name=wanted, why="stands on itself, by the records of its parents")
            met.add(wanted)
            record = self._committed(wanted)
            found.append(record)
            wanted = record.parent
        return found

    def _committed(self, name: str) -> SnapshotRecord:
        record = self.catalog.committed(name)
        if record is None:
            self.catalog.find(name)
            raise SnapshotStateError(name=name, why="is not committed")
        return record

    def files(self, name: str) -> str:
        """Give the directory in which the files of a committed snapshot lie."""
        return os.path.join(self.catalog.path(name), FILES)

    @contextmanager
    def opened(self, name: str) -> Iterator[Stack]:
        """Give the tree that a committed snapshot and those below it add up to, for reading."""
        records = self.layers(name)
        most_open = max(2, MOST_OPEN // len(records))
        with ExitStack() as trees:
            parts = []
            for record in records:
                tree = DiskTree(os.open(self.files(record.name), OPEN_DIRECTORY), most_open=most_open)
                trees.enter_context(tree)
                kind = markers(record.encoding) if record.encoding else SidecarMarkers()
                if isinstance(kind, SidecarMarkers):
                    kind = SidecarMarkers(record.whiteouts, record.opaque)
                parts.append(Part(StackedLayer(tree, kind, frozenset(record.skipped)), tree.root))
            yield Stack(parts)

    @abstractmethod
    def layers(self, name: str) -> list[SnapshotRecord]:
        """Give the committed snapshots whose files add up to one, topmost first."""

    # -- life of a snapshot --------------------------------------------------------------------------------------------

    def prepare(self, key: str, parent: str | None = None, labels: Mapping[str, str] | None = None) -> list[Mount]:
        """See `Snapshotter`."""
        return self._activate(key, parent, Kind.ACTIVE, labels)

    def view(self, key: str, parent: str | None = None, labels: Mapping[str, str] | None = None) -> list[Mount]:
        """See `Snapshotter`."""
        return self._activate(key, parent, Kind.VIEW, labels)

    def _activate(self, key: str, parent: str | None, kind: Kind, labels: Mapping[str, str] | None) -> list[Mount]:
        labelling.check(labels or {})
        now = time.time_ns()
        record = SnapshotRecord(name=key, kind=kind, parent=parent, created=now, updated=now, labels=dict(labels or {}))
        # To fill it may take as long as to copy the parent: nobody waits for that, and the lease keeps the parent.
        with self.catalog.lease([] if parent is None else [parent]), self.catalog.staging() as place:
            with self.catalog.lock("gc"):
                self._check_free(key, parent)
            self._fill(place, record)
            self.catalog.write_record(place.descriptor, record)
            with self.catalog.lock("gc"):
                self._check_free(key, parent)
                self.catalog.activate(place, key)
        return self.mounts(key)

    def _check_free(self, key: str, parent: str | None) -> None:
        if parent is not None:
            self._committed(parent)
        self.catalog.check_free(key)

    @abstractmethod
    def _fill(self, place: Private, record: SnapshotRecord) -> None:
        """Make the files with which an active snapshot begins."""

    @abstractmethod
    def mounts(self, key: str) -> list[Mount]:
        """See `Snapshotter`."""

    def commit(self, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        """See `Snapshotter`."""
        labelling.check(labels or {})
        with self.catalog.lock("gc"):
            path, _ = self._committable(name, key)
        # What takes time is done before: whoever else wants to change something in the store does not wait for it.
        encoding = self._encoding_of()
        usage = self._measured(key, path)
        if self._sync:
            with opened(self.catalog.root) as directory:
                sync_filesystem(directory)
        with self.catalog.lock("gc"):
            path, record = self._committable(name, key)
            now = time.time_ns()
            committed = record.changed(
                name=name,
                kind=Kind.COMMITTED,
                created=now,
                updated=now,
                labels=dict(labels or {}),
                usage=usage,
                encoding=encoding,
            )
            self.catalog.commit(path, committed)

    def _measured(self, name: str, path: str) -> Usage:
        try:
            return measured(os.path.join(path, FILES))
        except FileNotFoundError:  # somebody has committed or removed it just now
            self.catalog.find(name)
            raise

    def _committable(self, name: str, key: str) -> tuple[str, SnapshotRecord]:
        path, record = self.catalog.active(key)
        if record.kind is not Kind.ACTIVE:
            raise SnapshotStateError(name=key, why="is a view, and views are not committed")
        self.catalog.check_free(name)
        return path, record

    def missing(self, path: str, record: SnapshotRecord) -> str:
        """Say what an active snapshot needs beside its files and does not have; nothing if nothing."""
        del path, record
        return ""

    @abstractmethod
    def _encoding_of(self) -> str | None:
        """Say how an active snapshot that was written to through its mounts says what it hides."""

    def remove(self, name: str) -> None:
        """See `Snapshotter`."""
        with self.catalog.staging() as place, self.catalog.lock("gc"):
            path, record = self.catalog.find(name)
            child = next((record.name for record in self.catalog.records() if record.parent == name), None)
            if child is not None:
                raise SnapshotStateError(name=name, why=f"has a child, {quoted(child)}")
            if record.kind is Kind.COMMITTED and name in self.catalog.leased():
                raise SnapshotStateError(name=name, why="is in use by a running process")
            self.catalog.take(path, place)

    def cleanup(self) -> int:
        """See `Snapshotter`."""
        return self.catalog.sweep()

    def close(self) -> None:
        """See `Snapshotter`; there is nothing that stays open between two calls."""
        return

    # -- layers of images ----------------------------------------------------------------------------------------------

    def rules(self, limits: Limits = DEFAULT) -> Rules:
        """Give how layers are applied if nobody says anything else: with the image's owners, if the caller may."""
        with self.catalog.staging() as place:
            owners = Owners(apply=may_chown(place.descriptor))
            return Rules(owners=owners, umask=umask(), limits=limits, memory=Memory(limits.memory_bytes))

    def extract(
        self,
        layer: LayerSource,
        parent: str | None,
        rules: Rules,
        *,
        on_wait: Callable[[Holder], None] | None = None,
    ) -> tuple[SnapshotRecord, bool]:
        """Make the snapshot of a layer, unless it is there; whoever else makes it is waited for.

        Args:
            layer: The layer, which knows how to stage itself.
            parent: The chain_id below it.
            rules: How layers are applied.
            on_wait: Told, once, which process is at it.

        Returns:
            The record, and whether this call has made it.

        Raises:
            SnapshotStateError: It is there, and was made by other rules.
            UnpackError, OSError: See `unpacker.layer.apply.stage_layer`.
        """
        name = str(layer.chain_id)
        record = self.catalog.committed(name)
        if record is None:
            with self.catalog.lock(name, on_wait):
                record = self.catalog.committed(name)
                if record is None:
                    return self._extract(layer, parent, rules), True
        if record.made_by not in (rules.name, None):  # None: somebody has committed it, who says that it is this
            why = f"was unpacked with {record.made_by}, and {rules.name} is asked for: use another store"
            raise SnapshotStateError(name=name, why=why)
        return record, False

    def _extract(self, layer: LayerSource, parent: str | None, rules: Rules) -> SnapshotRecord:
        """Make the snapshot of a layer, in a private place until it is complete."""
        with at(f"snapshot {layer.chain_id} in {self.catalog.root}"), self.catalog.staging() as place:
            record = self._stage(place, layer, parent, self.rules_in(place, rules))
            self.catalog.write_record(place.descriptor, record)
            if self._sync:
                sync_filesystem(place.descriptor)
            with self.catalog.lock("gc"):
                if parent is not None and self.catalog.committed(parent) is None:
                    raise SnapshotNotFoundError(store=self.catalog.root, name=parent)
                self.catalog.publish(place, record.name)
        return record

    def rules_in(self, place: Private, rules: Rules) -> Rules:
        """Give the rules by which layers are staged for this store, in a place of it."""
        return rules.changed(readable=not may_read_all(place.descriptor))

    @abstractmethod
    def _stage(self, place: Private, layer: LayerSource, parent: str | None, rules: Rules) -> SnapshotRecord:
        """Make the files of a layer's snapshot, and its record."""

    def _record(
        self, place: Private, layer: LayerSource, parent: str | None, rules: Rules, changes: Changes
    ) -> SnapshotRecord:
        """Give the record of a layer whose files are complete."""
        now = time.time_ns()
        return SnapshotRecord(
            name=str(layer.chain_id),
            kind=Kind.COMMITTED,
            parent=parent,
            created=now,
            updated=now,
            usage=measured(f"/proc/self/fd/{place.descriptor}/{FILES}"),
            skipped=tuple(sorted(changes.skipped)),
            diff_id=str(layer.diff_id),
            blob=str(layer.blob),
            entries=changes.entries,
            tar_bytes=changes.tar_bytes,
            made_by=rules.name,
            losses={str(kind): count for kind, count in changes.losses.counts.items()},
        )

    def _finish(self, tree: Tree, layer: LayerSource, rules: Rules, losses: Losses) -> None:
        """Give all directories of a tree their attributes."""

        def lose(kind: LossKind, path: bytes, reason: str) -> None:
            losses.add(kind, path, reason)
            layer.on_loss(kind, path, reason)

        applier = Applier(rules.owners, lose, rules.umask, readable=rules.readable)
        finish_directories(tree, applier)
        finish_root(tree.descriptor(tree.root), tree.root.attributes or implied(), applier)

    def _copier(self, place: Private) -> Copier:
        """Give what copies files of the store, owners and all, as far as the caller may."""
        owners = Owners(apply=may_chown(place.descriptor))
        readable = not may_read_all(place.descriptor)
        return Copier(Applier(owners, lambda _kind, _path, _reason: None, umask(), readable=readable))


def _field(info: Info, path: tuple[str, ...]) -> str | None:
    """Give the field of a snapshot that a filter names."""
    name, *rest = path
    if name == "labels":
        return info.labels.get(".".join(rest))
    return {"name": info.name, "parent": info.parent, "kind": info.kind.value}[name] if not rest else None


def measured(path: str) -> Usage:
    """Count inodes and bytes on disk of a tree, each inode once (containerd's way: blocks, the root included).

    Others may write to it meanwhile: what goes away while it is counted is left out.
    """
    inodes = 1
    linked: set[int] = set()  # files with several names, of which a layer may have a million as well
    with DiskTree(os.open(path, OPEN_DIRECTORY)) as tree:
        size = os.fstat(tree.descriptor(tree.root)).st_blocks * 512
        waiting = [tree.root]
        while waiting:
            node = waiting.pop()
            with suppress(FileNotFoundError):
                for name, entry in tree.scan(node):
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(Directory(node, name))
                        elif status.st_nlink > 1:
                            inode = status.st_dev << 64 | status.st_ino
                            if inode in linked:
                                continue
                            linked.add(inode)
                        inodes += 1
                        size += status.st_blocks * 512
    return Usage(inodes=inodes, size=size)
