"""``unpacker fsck [LAYOUT] [--store DIR]``: a store against its records, a layout against its digests."""

from __future__ import annotations

import os
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
from unpacker.errors import DocumentError, IntegrityError, UnpackError, UsageError
from unpacker.events import Warned
from unpacker.image import Image
from unpacker.snapshots import fsck

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

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
            if arguments.repair:
                store.labels.remove(found.digest)
            tally.add("labels", found.labels, repaired=arguments.repair)
    feedback.say(f"checked {arguments.layout}: {count(blobs, 'blob')}, {amount(size)} read")
    return {"blobs": blobs, "blob_bytes": size}


def _check_store(arguments: Namespace, limits: Limits, tally: _Tally, feedback: Feedback) -> dict[str, object]:
    with open_store(arguments) as snapshotter:
        if arguments.repair:
            again = None
            if arguments.layout is not None:

                def again() -> None:
                    _unpack_again(arguments, limits, snapshotter, feedback)

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


def _unpack_again(arguments: Namespace, limits: Limits, snapshotter: StoreSnapshotter, feedback: Feedback) -> None:
    """Unpack the images of the store that come from the layout; one that cannot be does not hide the others."""
    layout = os.path.abspath(arguments.layout)
    for path in snapshotter.catalog.image_paths():
        with suppress(DocumentError):
            known = snapshotter.catalog.read_image(path)
            if known is not None and known["name"].startswith(f"{layout}:"):
                _unpack_image(known, layout, limits, snapshotter, feedback)


def _unpack_image(
    known: Mapping[str, str], layout: str, limits: Limits, snapshotter: StoreSnapshotter, feedback: Feedback
) -> None:
    try:
        name = known["name"].removeprefix(f"{layout}:")
        source = f"{layout}@{name}" if name == known["manifest"] else known["name"]
        image = Image.open(source, known["platform"], limits=limits, on_event=feedback.on_event)
        image.unpack(snapshotter, on_event=feedback.on_event)
    except UnpackError as error:
        feedback.on_event(Warned(message=f"image {known['name']} cannot be unpacked again: {error}"))
