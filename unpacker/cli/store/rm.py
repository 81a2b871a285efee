"""``unpacker rm NAME ... --store DIR``: images and snapshots go from a store; nothing of a layout is touched."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unpacker.cli import streams
from unpacker.cli.jsontext import to_json
from unpacker.cli.store.mounting import refuse_mounted
from unpacker.cli.store.opening import open_store
from unpacker.cli.text import count
from unpacker.errors import AmbiguousReferenceError, DocumentError, SnapshotStateError

if TYPE_CHECKING:
    from argparse import Namespace

    from unpacker.snapshots.base import StoreSnapshotter


def run(arguments: Namespace) -> int:
    """Remove them, in the order in which they were given."""
    removed = []
    with open_store(arguments) as snapshotter:
        for name in arguments.names:
            removed += _remove(snapshotter, name)
    if arguments.format == "json":
        rows = [{"kind": kind, "name": name} for kind, name in removed]
        streams.emit(to_json({"code": "ok", "exit_status": 0, "removed": rows}))
    elif any(kind == "image" for kind, _ in removed):
        images = sum(kind == "image" for kind, _ in removed)
        streams.say(f"removed {count(images, 'image')}; 'unpacker gc' removes snapshots that nothing refers to")
    return 0


def _remove(snapshotter: StoreSnapshotter, name: str) -> list[tuple[str, str]]:
    """Remove one thing; give what it was."""
    catalog = snapshotter.catalog
    images = _images(snapshotter, name)
    if images:
        for image, platform in images:
            catalog.remove_image(image, platform)
        return [("image", image) for image, _ in images]
    try:
        info = snapshotter.stat(name)
    except DocumentError:
        if not os.path.isdir(catalog.active_path(name)):
            raise  # A committed one, which others may need: for fsck.
        _remove_broken(snapshotter, name)
        return [("snapshot", name)]
    refuse_mounted(info)
    user = next((image["name"] for image in catalog.images() if image["chain_id"] == info.name), None)
    if user is not None:
        raise SnapshotStateError(name=name, why=f"is what image {user} stands for: remove the image")
    snapshotter.remove(info.name)
    return [("snapshot", info.name)]


def _remove_broken(snapshotter: StoreSnapshotter, key: str) -> None:
    """Remove an active snapshot whose record cannot be read: fsck leaves that to its owner, who knows its key."""
    catalog = snapshotter.catalog
    with catalog.staging() as place, catalog.lock("gc"):
        catalog.take(catalog.active_path(key), place)


def _images(snapshotter: StoreSnapshotter, name: str) -> list[tuple[str, str]]:
    """Find images by name, all platforms of it: as they are listed, relative to here, or the layout alone.

    Raises:
        AmbiguousReferenceError: It is a layout of several images.
    """
    known = [(image["name"], image["platform"]) for image in snapshotter.catalog.images()]
    path = os.path.abspath(name.removeprefix("oci:"))
    for matches in ({name}, {path}):
        found = [image for image in known if image[0] in matches]
        if found:
            return found
    found = [image for image in known if image[0].startswith(f"{path}:")]
    names = sorted({image for image, _ in found})
    if len(names) > 1:
        raise AmbiguousReferenceError(layout=path, reference=None, available=tuple(names))
    return found
