"""A snapshot store against its own records: what is broken in it, and what can be done about that.

Of each committed snapshot: its record can be read, stands under its name, and agrees with it (the chain_id follows from
parent and diff_id); its parent is there; its files are there, as many inodes as were counted, with no fewer blocks.
Whether the bytes of a file are still right, nothing here can tell: a snapshot has no digest of its tree.  Of each
active one: its record, its parent, its directories.  Of each image: its snapshot is there.  Of each merged tree: nobody
has written to it.

To repair means to take away what is broken, and to have it unpacked again by whoever has the image.  What somebody
works with, an active snapshot and all that it stands on, is never taken away.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from unpacker.errors import UnpackError, quoted
from unpacker.record import Record
from unpacker.snapshots import merged
from unpacker.snapshots.base import FILES, measured
from unpacker.snapshots.catalog import ACTIVE, RECORD
from unpacker.snapshots.snapshotter import Kind
from unpacker.spec.chain import chain_ids
from unpacker.spec.digest import Digest, InvalidDigestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from unpacker.snapshots.base import StoreSnapshotter
    from unpacker.snapshots.record import SnapshotRecord

_BLOCK = 4096


class Fault(Record):
    """One thing that is broken."""

    kind: str
    """``snapshot``, ``merged``, ``active`` or ``image``."""
    path: str
    """Where it is in the store."""
    name: str | None
    """Its name, if that can be told."""
    why: str
    orphan: bool = False
    """It is right in itself, and what it stands on is missing."""

    def __str__(self) -> str:
        shown = "" if self.name is None else f" ({self.name if self.name.isprintable() else quoted(self.name)})"
        return f"{self.path}{shown}: {self.why}"


class Checked(Record):
    """What a check has found."""

    faults: tuple[Fault, ...]
    """What is broken now."""
    removed: tuple[Fault, ...] = ()
    """What was broken, and was taken away."""
    remade: tuple[Fault, ...] = ()
    """What was broken, and was made anew."""
    snapshots: int = 0
    """How many snapshots there are, active ones among them."""
    images: int = 0
    leftovers: int = 0
    """Things that killed processes had left, swept."""


def check(snapshotter: StoreSnapshotter) -> Checked:
    """Look at everything in a store.

    Raises:
        OSError: Something cannot be read.
    """
    leftovers = snapshotter.cleanup()
    with suppress(FileNotFoundError):  # It was removed by somebody, between two looks at it.
        found = _Check(snapshotter).run()
        if not found.faults:
            return found.changed(leftovers=leftovers)
    # Once more, while nobody removes anything; whoever has nothing to repair need not wait for that.
    with snapshotter.catalog.lock("gc"):
        return _Check(snapshotter).run().changed(leftovers=leftovers)


def repair(snapshotter: StoreSnapshotter, again: Callable[[], object] | None = None) -> Checked:
    """Look at everything, take away what is broken, and have it made again.

    Args:
        snapshotter: The store.
        again: Unpacks the images that there are, called if something was broken.

    Returns:
        What is broken still, and what was repaired: by removal, or made anew.
    """
    met: dict[str, Fault] = {}
    found = check(snapshotter)
    if found.faults:
        # What is broken in itself makes room for what is unpacked again; what nobody has stays without, and goes next.
        _remove(snapshotter, met, lambda fault: fault.kind == "snapshot" and not fault.orphan)
        if again is not None:
            again()
        while _remove(snapshotter, met, lambda fault: fault.kind != "active"):
            pass
        found = check(snapshotter).changed(leftovers=found.leftovers)
    still = {fault.path for fault in found.faults}
    repaired = [fault for path, fault in met.items() if path not in still]
    return found.changed(
        removed=tuple(fault for fault in repaired if not os.path.lexists(fault.path)),
        remade=tuple(fault for fault in repaired if os.path.lexists(fault.path)),
    )


def _remove(snapshotter: StoreSnapshotter, met: dict[str, Fault], wanted: Callable[[Fault], bool]) -> int:
    """Look, and remove what is broken, but for what somebody works on; give how many things that was.

    All under one lock: else another process could have repaired it in between.
    """
    catalog = snapshotter.catalog
    removed = 0
    with catalog.staging() as place, catalog.lock("gc"):
        used = _in_use(snapshotter)
        for fault in _Check(snapshotter).run().faults:
            met.setdefault(fault.path, fault)
            if wanted(fault) and fault.path not in used:
                catalog.take(fault.path, place, str(removed))
                removed += 1
    return removed


def _in_use(snapshotter: StoreSnapshotter) -> set[str]:
    """Give the directories of all snapshots that an active one or a running process needs."""
    catalog = snapshotter.catalog
    records = [record for _, _, record, _ in _records(snapshotter) if record is not None]
    parents = {record.name: record.parent for record in records}
    active = [record.parent for record in records if record.kind is not Kind.COMMITTED]
    waiting = [*catalog.leased(), *(parent for parent in active if parent is not None)]
    used: set[str] = set()
    while waiting:
        name = waiting.pop()
        path = catalog.path(name)
        if path not in used:
            used.add(path)
            parent = parents.get(name)
            if parent is not None:
                waiting.append(parent)
    return used


def _records(snapshotter: StoreSnapshotter) -> Iterator[tuple[str, str, SnapshotRecord | None, str]]:
    """Give each place where a snapshot should be: its kind, its path, its record; or why there is none."""
    catalog = snapshotter.catalog
    places = (("snapshot", RECORD, catalog.committed_paths()), ("active", ACTIVE, catalog.active_paths()))
    for kind, name, paths in places:
        for path in paths:
            try:
                yield kind, path, catalog.read(path, name), ""
            except FileNotFoundError:
                yield kind, path, None, f"has no {name}"
            except NotADirectoryError:
                yield kind, path, None, "is no snapshot"
            except UnpackError as error:
                yield kind, path, None, str(error).removeprefix(f"{path}/")


class _Check:
    """One look at everything in a store."""

    def __init__(self, snapshotter: StoreSnapshotter) -> None:
        self._snapshotter = snapshotter
        self._catalog = snapshotter.catalog

    def run(self) -> Checked:
        """Look."""
        found = list(_records(self._snapshotter))
        whole = {record.name for _, path, record, _ in found if record is not None and self._is_at(path, record)}
        faults = []
        for kind, path, record, unread in found:
            if record is None:
                faults.append(Fault(kind=kind, path=path, name=None, why=unread))
            elif why := self._fault(path, record):
                faults.append(Fault(kind=kind, path=path, name=record.name, why=why))
            elif record.parent is not None and record.parent not in whole:
                why = f"its parent {record.parent} is not there"
                faults.append(Fault(kind=kind, path=path, name=record.name, why=why, orphan=True))
            elif record.kind is Kind.COMMITTED and (why := merged.fault(self._catalog, record.name)):
                faults.append(Fault(kind="merged", path=os.path.join(path, merged.MERGED), name=record.name, why=why))
        images = list(self._images(whole))
        faults += [fault for fault in images if fault is not None]
        return Checked(faults=tuple(faults), snapshots=len(found), images=len(images))

    def _is_at(self, path: str, record: SnapshotRecord) -> bool:
        committed = record.kind is Kind.COMMITTED
        return path == (self._catalog.path(record.name) if committed else self._catalog.active_path(record.name))

    def _fault(self, path: str, record: SnapshotRecord) -> str:
        """Say what is wrong with a snapshot, whose record can be read; nothing if nothing is."""
        if not self._is_at(path, record):
            return f"its record is that of {record.kind} snapshot {quoted(record.name)}"
        if not _is_directory(os.path.join(path, FILES)):
            return f"has no directory {FILES}"
        if record.kind is not Kind.COMMITTED:
            return self._snapshotter.missing(path, record)
        return _wrong_name(record) or _wrong_usage(path, record)

    def _images(self, whole: set[str]) -> Iterator[Fault | None]:
        """Look at each image; None for one that is right."""
        for path in self._catalog.image_paths():
            try:
                image = self._catalog.read_image(path)
            except UnpackError as error:
                yield Fault(kind="image", path=path, name=None, why=str(error).removeprefix(f"{path}: "))
                continue
            if image is None:
                continue  # It was removed just now.
            why = ""
            if path != self._catalog.image_path(image["name"], image["platform"]):
                why = "is that of another image"
            elif image["chain_id"] not in whole:
                why = f"its snapshot {image['chain_id']} is not there"
            yield Fault(kind="image", path=path, name=image["name"], why=why) if why else None


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _wrong_name(record: SnapshotRecord) -> str:
    """Compare the name of a layer's snapshot with what it must be (config.md, Layer ChainID)."""
    if record.diff_id is None:
        return ""  # Made by hand, with a name of its maker's choice.
    try:
        chain = [Digest.parse(name) for name in (record.parent, record.diff_id) if name is not None]
    except InvalidDigestError as error:
        return f"its record: {error}"
    wanted = str(chain_ids(chain)[-1])
    return "" if wanted == record.name else f"parent and diff_id in its record make the chain_id {wanted}"


def _wrong_usage(path: str, record: SnapshotRecord) -> str:
    """Compare the files with what was counted when they were complete.

    Blocks are no exact measure: filesystems give a file more or fewer of them when its data reaches the disk.
    """
    if record.usage is None:
        return "its record has no usage"
    found = measured(os.path.join(path, FILES))
    if found.inodes != record.usage.inodes:
        return f"has {found.inodes} inodes, and was made of {record.usage.inodes}"
    if found.size + found.inodes * _BLOCK < record.usage.size:
        return f"has {found.size} bytes on disk, and was made of {record.usage.size}"
    return ""
