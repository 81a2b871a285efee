"""``unpacker mount LAYOUT[:TAG|@DIGEST] TARGET`` and ``unpacker umount TARGET``: an image's tree, for a while.

What is mounted is a view, or an active snapshot that takes what is written, so that no garbage collection takes its
layers away.  A label on it says where it is mounted: that is how ``umount`` finds it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unpacker.cli import streams
from unpacker.cli.jsontext import to_json
from unpacker.cli.store.opening import open_store
from unpacker.cli.store.unpacked import unpacked
from unpacker.errors import (
    AlreadyExistsError,
    DestinationError,
    MountError,
    SnapshotNotFoundError,
    SnapshotStateError,
    quoted,
)
from unpacker.snapshots.mounting import mount, unmount
from unpacker.snapshots.snapshotter import Kind
from unpacker.tree.mounts import is_mount

if TYPE_CHECKING:
    from argparse import Namespace

    from unpacker.snapshots.base import StoreSnapshotter
    from unpacker.snapshots.mounts import Mount
    from unpacker.snapshots.snapshotter import Info

TARGET = "unpacker.mounted-at"
"""The label that says where a snapshot is mounted."""


def run(arguments: Namespace) -> int:
    """Mount, or unmount."""
    return _mount(arguments) if arguments.verb == "mount" else _umount(arguments)


def _mount(arguments: Namespace) -> int:
    target = os.path.realpath(arguments.target)
    if not os.path.isdir(target):
        raise DestinationError(path=arguments.target, why="is no directory to mount at", advice="make one: mkdir")
    if is_mount(target):
        raise DestinationError(path=arguments.target, why="something is mounted there already")
    key = arguments.key or target
    with open_store(arguments, create=True) as snapshotter:
        parent = unpacked(arguments, snapshotter)
        kind = Kind.ACTIVE if arguments.writable else Kind.VIEW
        with snapshotter.catalog.lock(f"mount {key}"):
            _forget_target(snapshotter, target)
            mounts, new = _prepared(snapshotter, key, parent, kind, target)
            try:
                mount(mounts, target)
            except BaseException:
                if new:
                    snapshotter.remove(key)
                raise
    if arguments.format == "json":
        facts = {"key": key, "kind": kind.value, "target": target, "mounts": [each.as_dict() for each in mounts]}
        streams.emit(to_json({"code": "ok", "exit_status": 0, **facts}))
    elif not arguments.quiet:
        streams.say(f"mounted {arguments.source} at {target}" + ("" if new else f", with what is in snapshot {key}"))
    return 0


def _forget_target(snapshotter: StoreSnapshotter, target: str) -> None:
    """Take the label off what was mounted there once: it was unmounted by other means, or the machine started anew."""
    for info in snapshotter.walk("kind!=committed"):
        if info.labels.get(TARGET) == target:
            snapshotter.update(info.changed(labels={}), f"labels.{TARGET}")


def _prepared(
    snapshotter: StoreSnapshotter, key: str, parent: str | None, kind: Kind, target: str
) -> tuple[list[Mount], bool]:
    """Make the snapshot that is to be mounted, or take the one that was kept; whether it is new."""
    labels = {TARGET: target}
    try:
        info = snapshotter.stat(key)
    except SnapshotNotFoundError:
        make = snapshotter.view if kind is Kind.VIEW else snapshotter.prepare
        return make(key, parent, labels), True
    if (info.kind, info.parent) != (kind, parent):
        advice = "it is of another image, or of another kind: choose another --key, or remove it (unpacker rm)"
        raise AlreadyExistsError(where=snapshotter.catalog.root, what=f"snapshot {quoted(key)}", advice=advice)
    refuse_mounted(info)
    snapshotter.update(info.changed(labels=labels), f"labels.{TARGET}")
    return snapshotter.mounts(key), False


def refuse_mounted(info: Info) -> None:
    """Refuse to touch what is in use.

    Raises:
        SnapshotStateError: It is mounted.
    """
    there = info.labels.get(TARGET)
    if there is not None and is_mount(there):
        raise SnapshotStateError(name=info.name, why=f"is mounted at {there}: umount it first")


def _umount(arguments: Namespace) -> int:
    target = os.path.realpath(arguments.target)
    with open_store(arguments) as snapshotter:
        info = _mounted_at(snapshotter, target)
        with snapshotter.catalog.lock(f"mount {info.name}"):
            if arguments.commit is not None:
                _check_commit(snapshotter, info, arguments.commit)
            if is_mount(target):  # Else somebody has unmounted it by other means.
                unmount(target)
            fate = _end(snapshotter, info, arguments)
    if arguments.format == "json":
        streams.emit(to_json({"code": "ok", "exit_status": 0, "key": info.name, "target": target, "snapshot": fate}))
    return 0


def _mounted_at(snapshotter: StoreSnapshotter, target: str) -> Info:
    for info in snapshotter.walk("kind!=committed"):
        if info.labels.get(TARGET) == target:
            return info
    why = "nothing of this store is mounted there"
    raise MountError(target=target, what="unmounting", why=why, advice="umount(8) takes away what others have mounted")


def _check_commit(snapshotter: StoreSnapshotter, info: Info, name: str) -> None:
    """Refuse before anything happens what would fail afterwards."""
    if info.kind is Kind.VIEW:
        raise SnapshotStateError(name=info.name, why="is a view, and views are not committed: mount --writable")
    if snapshotter.catalog.committed(name) is not None:
        raise AlreadyExistsError(where=snapshotter.catalog.root, what=f"snapshot {quoted(name)}")


def _end(snapshotter: StoreSnapshotter, info: Info, arguments: Namespace) -> str | None:
    """Do with the snapshot as was asked; give what is there of it then."""
    if arguments.commit is not None:
        snapshotter.commit(arguments.commit, info.name)
        return str(arguments.commit)
    if arguments.keep:
        snapshotter.update(info.changed(labels={}), f"labels.{TARGET}")
        return info.name
    snapshotter.remove(info.name)
    return None
