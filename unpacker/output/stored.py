"""An image's layers by way of a snapshot store: what is there is not read again, and DEST is a copy."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from unpacker.errors import DestinationError
from unpacker.events import Event, LossKind, Lost, OnEvent, ignore
from unpacker.layer.clone import clone
from unpacker.output.directory import Rootfs
from unpacker.tree.attributes import Applier
from unpacker.tree.copy import Copier

if TYPE_CHECKING:
    from unpacker.image import Image
    from unpacker.layer.rules import Rules
    from unpacker.snapshots.base import StoreSnapshotter
    from unpacker.tree.workspace import Workspace


def build_from_store(
    image: Image,
    snapshotter: StoreSnapshotter,
    workspace: Workspace,
    rules: Rules,
    *,
    dest: str,
    link: bool = False,
    labels: bool = True,
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
        on_event: Told what happens.

    Raises:
        UnpackError, OSError: See `unpacker.layer.apply.stage_layer`.
    """
    rootfs = Rootfs(b"merged", workspace.tree(b"merged"))

    def lose(kind: LossKind, path: bytes, reason: str) -> None:
        rootfs.losses.add(kind, path, reason)

    def told(event: Event) -> None:
        """Keep an example of each loss: the records that snapshots have of them are only counts."""
        if isinstance(event, Lost):
            rootfs.losses.samples.setdefault(event.kind, (event.path, event.reason))
        on_event(event)

    try:
        # The lease outlasts that of the unpack: the image's name may be given to another one while files are copied.
        with snapshotter.catalog.lease(map(str, image.chain_ids())):
            records = image.unpack(snapshotter, rules, labels=labels, on_event=told)
            for record in records:
                rootfs.entries += record.entries
                rootfs.tar_bytes += record.tar_bytes
                for kind, count in record.losses.items():
                    rootfs.losses.counts[LossKind(kind)] = rootfs.losses.counts.get(LossKind(kind), 0) + count
            if records:
                copier = Copier(Applier(rules.owners.on_host(), lose, rules.umask))
                with snapshotter.opened(records[-1].name) as stack:
                    clone(stack, rootfs.tree, copier, link=link)
    except OSError as error:
        rootfs.tree.close()
        if link and error.errno == errno.EXDEV:
            why = "is on another filesystem than the store, and hard links cannot lead there"
            raise DestinationError(path=dest, why=why, advice="without --link, files are copied") from None
        raise
    except BaseException:
        rootfs.tree.close()
        raise
    return rootfs
