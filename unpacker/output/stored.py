"""An image's layers by way of a snapshot store: what is there is not read again, and DEST is a copy.

File by file, with shared blocks where the filesystem can; or the whole tree by one call, where it can copy a tree: then
the store keeps what the layers add up to (`unpacker.snapshots.merged`), and the next run needs no look at any file.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from unpacker.errors import DestinationError, UnpackError
from unpacker.events import Event, LayerReused, LossKind, Lost, OnEvent, Waiting, Warned, ignore
from unpacker.image import label
from unpacker.layer.changes import Losses
from unpacker.output.rootfs import Rootfs
from unpacker.snapshots import merged
from unpacker.snapshots.catalog import opened
from unpacker.tree import subvolume
from unpacker.tree.attributes import Applier, Attributes, implied
from unpacker.tree.directory import WORKING_MODE
from unpacker.tree.private import tree_in
from unpacker.tree.rights import regain
from unpacker.tree.room import Room

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpacker.image import Image
    from unpacker.layer.rules import Rules
    from unpacker.snapshots.base import StoreSnapshotter
    from unpacker.snapshots.record import SnapshotRecord
    from unpacker.tree.directory import Tree
    from unpacker.tree.lock import Holder
    from unpacker.tree.workspace import Workspace

_NAME = b"merged"


def build_from_store(
    image: Image,
    snapshotter: StoreSnapshotter,
    workspace: Workspace,
    rules: Rules,
    *,
    dest: str,
    link: bool = False,
    labels: bool = True,
    jobs: int | None = None,
    on_event: OnEvent = ignore,
) -> Rootfs:
    """Unpack an image into a store, and copy its tree from there; the caller closes the tree that comes out.

    Args:
        image: The image.
        snapshotter: The store.
        workspace: Where the copy is made.
        rules: How layers are applied.
        dest: What errors call the place where it shall be.
        link: Make hard links into the store instead of a copy.
        labels: Note each verified layer's diff_id in the layout.
        jobs: Layers that are staged at a time; None: `unpacker.layer.ahead.default_jobs`.
        on_event: Told what happens.

    Raises:
        UnpackError, OSError: See `unpacker.layer.apply.stage_layer`.
    """
    copying = _Copying(image, snapshotter, workspace, rules, on_event)
    # Names move out of a subvolume one by one only by being copied, and no hard link leads into one.
    whole = bool(image.layers) and not workspace.inside and not link
    rootfs = copying.again(labels=labels) if whole else None
    if rootfs is not None:
        return rootfs
    # The lease outlasts that of the unpack: the image's name may be given to another one while files are copied.
    try:
        with snapshotter.catalog.lease(map(str, image.chain_ids())):
            copying.add(image.unpack(snapshotter, rules, labels=labels, jobs=jobs, on_event=copying.told))
            rootfs = (copying.at_once() if whole else None) or copying.file_by_file(dest, link=link)
    except BaseException:  # the lease could not be given back
        if rootfs is not None:
            rootfs.tree.close()
        raise
    return rootfs


class _Copying:
    """One image, on its way from a store to a workspace.

    Args:
        image, snapshotter, workspace, rules, on_event: See `build_from_store`.
    """

    def __init__(
        self, image: Image, snapshotter: StoreSnapshotter, workspace: Workspace, rules: Rules, on_event: OnEvent
    ) -> None:
        self._image = image
        self._snapshotter = snapshotter
        self._workspace = workspace
        self._rules = rules
        self._on_event = on_event
        self._records: Sequence[SnapshotRecord] = ()
        self._losses = Losses()

    def told(self, event: Event) -> None:
        """Keep an example of each loss: the records that snapshots have of them are only counts."""
        if isinstance(event, Lost):
            self._losses.samples.setdefault(event.kind, (event.path, event.reason))
        self._on_event(event)

    def add(self, records: Sequence[SnapshotRecord]) -> None:
        """Take over what is known of the layers."""
        self._records = records
        for record in records:
            for kind, count in record.losses.items():
                self._losses.counts[LossKind(kind)] = self._losses.counts.get(LossKind(kind), 0) + count

    # -- the whole tree by one call ------------------------------------------------------------------------------------

    def again(self, *, labels: bool) -> Rootfs | None:
        """Copy the tree that an earlier run has kept, if nothing else is to be done; this takes no lock."""
        name = str(self._image.layers[-1].chain_id)
        if not merged.is_there(self._snapshotter.catalog, name):
            return None
        records = self._image.kept(self._snapshotter)
        # What was made by other rules is an error, which `StoreSnapshotter.extract` tells.
        if records is None or any(record.made_by not in (self._rules.name, None) for record in records):
            return None
        self._records = records
        found = self._taken()
        if found is None:
            return None
        for layer, record in zip(self._image.layers, records, strict=True):
            digest = layer.descriptor.digest
            if labels and record.blob == str(digest):
                label(self._image.layout, layer, self._on_event)
            self._on_event(
                LayerReused(index=layer.index, digest=str(digest), chain_id=record.name, size=layer.descriptor.size)
            )
        return self._adopted(found)

    def at_once(self) -> Rootfs | None:
        """Copy the tree that is kept, or make and keep it first; None where trees cannot be copied whole.

        Of several processes one makes it, and the others wait.
        """
        catalog = self._snapshotter.catalog
        with opened(catalog.root) as store:
            filesystem = subvolume.filesystem(store)
        if filesystem is None or filesystem != subvolume.filesystem(self._workspace.descriptor):
            return None
        found = self._taken()
        if found is None:
            with catalog.lock(f"merged {self._name}", self._waiting):
                found = self._taken() or self._made()
        return None if found is None else self._adopted(found)

    @property
    def _name(self) -> str:
        return self._records[-1].name

    @property
    def _made_by(self) -> str:
        """What two runs must have in common to make the same tree: who owns what gets no owner, too."""
        return f"{self._rules.name}, {os.geteuid()}:{os.getegid()}"

    def _waiting(self, holder: Holder) -> None:
        layer = self._image.layers[-1]
        digest = str(layer.descriptor.digest)
        self._on_event(Waiting(index=layer.index, digest=digest, pid=holder.pid, since=holder.since))

    def _taken(self) -> merged.Merged | None:
        return merged.take(self._snapshotter.catalog, self._name, self._made_by, self._workspace.descriptor, _NAME)

    def _made(self) -> merged.Merged | None:
        """Make the tree in the store, copy it to the workspace, and keep it; None where that is not possible."""
        from unpacker.tree.finish import finish_directories, finish_root  # noqa: PLC0415 -- not to copy it again

        catalog, losses = self._snapshotter.catalog, Losses()
        with catalog.staging() as place:
            if not subvolume.create(place.descriptor, os.fsencode(merged.FILES)):
                return None
            regain(merged.FILES, place.descriptor)
            with tree_in(place.descriptor, os.fsencode(merged.FILES)) as tree:
                applier = self._copy(tree, losses)
                finish_directories(tree, applier)
                root = tree.root.attributes or implied()
                mode, root.mode = root.mode, WORKING_MODE  # what no owner may open, the next run could not either
                finish_root(tree.descriptor(tree.root), root, applier)
                if not subvolume.snapshot(tree.descriptor(tree.root), self._workspace.descriptor, _NAME):
                    return None
            self._losses.update(losses)
            made = merged.Merged(
                made_by=self._made_by,
                mode=mode,
                losses={str(kind): count for kind, count in self._losses.counts.items()},
                samples={str(kind): sample for kind, sample in self._losses.samples.items()},
            )
            try:
                merged.keep(catalog, self._name, place, made)
            except (UnpackError, OSError) as error:  # nobody's work stops at what only saves time
                self._on_event(Warned(message=f"{catalog.root}: the merged tree is not kept: {error}"))
        return made

    def _adopted(self, found: merged.Merged) -> Rootfs:
        """Give the copy in the workspace, all of which has its attributes but the root."""
        tree = tree_in(self._workspace.descriptor, _NAME)
        status = os.fstat(tree.descriptor(tree.root))
        tree.root.attributes = Attributes(found.mode, status.st_uid, status.st_gid, status.st_mtime_ns)
        tree.root.attributes.on_host = True
        self._losses = Losses()
        self._losses.counts = {LossKind(kind): count for kind, count in found.losses.items()}
        self._losses.samples = {LossKind(kind): sample for kind, sample in found.samples.items()}
        return self._stored(tree)

    # -- file by file --------------------------------------------------------------------------------------------------

    def file_by_file(self, dest: str, *, link: bool) -> Rootfs:
        """Copy each file; directories wait for their attributes then."""
        tree = self._workspace.tree(_NAME)
        if self._rules.memory is not None:
            tree.share(self._rules.memory)
        try:
            self._copy(tree, self._losses, link=link)
        except OSError as error:
            tree.close()
            if link and error.errno == errno.EXDEV:
                why = "is on another filesystem than the store, and hard links cannot lead there"
                raise DestinationError(path=dest, why=why, advice="without --link, files are copied") from None
            raise
        except BaseException:
            tree.close()
            raise
        return self._stored(tree)

    def _copy(self, tree: Tree, losses: Losses, *, link: bool = False) -> Applier:
        """Copy what the layers add up to into an empty tree; give what gives directories their attributes."""
        from unpacker.layer.clone import clone  # noqa: PLC0415 -- not to copy a whole tree
        from unpacker.tree.copy import Copier  # noqa: PLC0415 -- as above

        if self._rules.memory is not None:
            tree.share(self._rules.memory)

        def lose(kind: LossKind, where: bytes, reason: str) -> None:
            losses.add(kind, where, reason)
            self._on_event(Lost(kind=kind, path=where, reason=reason))

        applier = Applier(self._rules.owners.on_host(), lose, self._rules.umask)
        if self._records:
            with self._snapshotter.opened(self._records[-1].name) as stack:
                room = Room(tree.descriptor(tree.root), self._rules.limits.free_bytes)
                clone(stack, tree, Copier(applier, room.take), link=link)
        return applier

    def _stored(self, tree: Tree) -> Rootfs:
        entries = sum(record.entries for record in self._records)
        return Rootfs(_NAME, tree, self._losses, entries, sum(record.tar_bytes for record in self._records))
