"""``unpacker fsck [LAYOUT] [--store DIR]``: a store against its records, a layout against its digests."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from unpacker.checks import check_blobs
from unpacker.cli import options, streams
from unpacker.cli.failures import STATUSES
from unpacker.cli.feedback import Feedback
from unpacker.cli.jsontext import to_json
from unpacker.cli.parser import STORE_VARIABLE, store_of
from unpacker.cli.store.opening import open_store
from unpacker.cli.text import amount, count
from unpacker.content.disk import ContentStore
from unpacker.content.labels import UNCOMPRESSED
from unpacker.errors import DocumentError, IntegrityError, UnpackError, UsageError
from unpacker.events import Warned
from unpacker.image import Image
from unpacker.record import Record
from unpacker.snapshots import fsck
from unpacker.tree.owners import IdMap, Owners

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from unpacker.layer.rules import Rules
    from unpacker.limits import Limits
    from unpacker.snapshots.base import StoreSnapshotter

BROKEN = dict(STATUSES)[IntegrityError]


class _Tally:
    """What was found so far, and where it is said."""

    def __init__(self, arguments: Namespace, feedback: Feedback) -> None:
        self._program = arguments.program
        self._feedback = feedback
        self.faults: list[dict[str, object]] = []

    def add(self, kind: str, what: str, *, repaired: bool = False) -> None:
        """Count one broken thing."""
        self.faults.append({"kind": kind, "what": what, "repaired": repaired})
        if repaired:
            self._feedback.say(f"repaired: {what}")
        else:
            streams.say(f"{self._program}: error: {what}")

    @property
    def broken(self) -> bool:
        """Whether anything is broken still."""
        return not all(fault["repaired"] for fault in self.faults)


def run(arguments: Namespace) -> int:
    """Check what there is."""
    limits = options.limits(arguments.limit)
    if store_of(arguments) is None and arguments.layout is None:
        raise UsageError("nothing to check", f"give a LAYOUT, or --store DIR, or {STORE_VARIABLE} in the environment")
    with Feedback.on_stderr(arguments) as feedback:
        tally = _Tally(arguments, feedback)
        facts: dict[str, object] = {}
        if arguments.layout is not None:
            facts |= _check_layout(arguments, limits, tally, feedback)
        if store_of(arguments) is not None:
            facts |= _check_store(arguments, limits, tally, feedback)
    status = BROKEN if tally.broken else 0
    if arguments.format == "json":
        message = "something is broken" if status else None
        head = {"code": "integrity" if status else "ok", "message": message, "hint": None, "exit_status": status}
        streams.emit(to_json({**head, **facts, "faults": tally.faults}))
    return status


def _check_layout(arguments: Namespace, limits: Limits, tally: _Tally, feedback: Feedback) -> dict[str, object]:
    store = ContentStore(arguments.layout)
    blobs = size = 0
    for found in check_blobs(store, limits):
        blobs, size = blobs + 1, size + found.size
        if found.blob is not None:
            tally.add("blob", found.blob)
        if found.labels is not None:
            if arguments.repair and found.unreadable:
                store.labels.remove(found.digest)
            elif arguments.repair:
                store.labels.set(found.digest, {UNCOMPRESSED: ""})
            tally.add("labels", found.labels, repaired=arguments.repair)
    feedback.say(f"checked {arguments.layout}: {count(blobs, 'blob')}, {amount(size)} read")
    return {"blobs": blobs, "blob_bytes": size}


def _check_store(arguments: Namespace, limits: Limits, tally: _Tally, feedback: Feedback) -> dict[str, object]:
    with open_store(arguments) as snapshotter:
        if arguments.repair:
            again = None
            if arguments.layout is not None:
                made_by = _made_by(snapshotter)

                def again() -> None:
                    _unpack_again(_Again(arguments.layout, limits, snapshotter, feedback, made_by))

            found = fsck.repair(snapshotter, again)
        else:
            found = fsck.check(snapshotter)
    for fault in found.removed:
        tally.add(fault.kind, f"removed {fault}", repaired=True)
    for fault in found.remade:
        tally.add(fault.kind, f"unpacked again {fault}", repaired=True)
    for fault in found.faults:
        tally.add(fault.kind, str(fault))
    swept = f", {count(found.leftovers, 'leftover')} swept" if found.leftovers else ""
    counted = f"{count(found.snapshots, 'snapshot')}, {count(found.images, 'image')}{swept}"
    feedback.say(f"checked {snapshotter.catalog.root}: {counted}")
    return {"snapshots": found.snapshots, "images": found.images, "leftovers": found.leftovers}


class _Again(Record, kw_only=False):
    """What it takes to unpack images once more."""

    layout: str
    limits: Limits
    snapshotter: StoreSnapshotter
    feedback: Feedback
    made_by: Mapping[str, str]
    """By which rules the layers of the store were applied, of those whose record could be read."""


def _made_by(snapshotter: StoreSnapshotter) -> dict[str, str]:
    found = {}
    for path in snapshotter.catalog.committed_paths():
        with suppress(UnpackError, FileNotFoundError, NotADirectoryError):
            record = snapshotter.catalog.read(path)
            if record.made_by is not None:
                found[record.name] = record.made_by
    return found


def _unpack_again(again: _Again) -> None:
    """Unpack the images of the store that come from the layout; one that cannot be does not hide the others."""
    layout = os.path.abspath(again.layout)
    for path in again.snapshotter.catalog.image_paths():
        with suppress(DocumentError):
            known = again.snapshotter.catalog.read_image(path)
            if known is not None and known["name"].startswith(f"{layout}:"):
                _unpack_image(known, layout, again)


def _unpack_image(known: Mapping[str, str], layout: str, again: _Again) -> None:
    try:
        name = known["name"].removeprefix(f"{layout}:")
        source = f"{layout}@{name}" if name == known["manifest"] else known["name"]
        image = Image.open(source, known["platform"], limits=again.limits, on_event=again.feedback.on_event)
        image.unpack(again.snapshotter, _rules(image, again), on_event=again.feedback.on_event)
    except UnpackError as error:
        again.feedback.on_event(Warned(message=f"image {known['name']} cannot be unpacked again: {error}"))


def _rules(image: Image, again: _Again) -> Rules:
    """Give the rules by which the image's other layers were applied, or any in the store: they do not mix."""
    usual = again.snapshotter.rules(again.limits)
    known = (again.made_by[name] for name in map(str, image.chain_ids()) if name in again.made_by)
    text = next(known, next(iter(again.made_by.values()), usual.name))
    maps = [(kind, IdMap.parse(ids)) for kind, ids in re.findall(r"([ug]id) (\d+:\d+:\d+)", text)]
    uids, gids = ([ids for kind, ids in maps if kind == wanted] for wanted in ("uid", "gid"))
    owners = Owners(apply=text.startswith("owners"), uid_map=uids, gid_map=gids)
    return usual.changed(owners=owners, keep_dirlinks=text.endswith("directory links kept"))
