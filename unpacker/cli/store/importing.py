"""``unpacker import LAYOUT[:TAG|@DIGEST] LAYOUT[:TAG]``: an image into another layout."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from unpacker.cli import options, streams
from unpacker.cli.feedback import Feedback
from unpacker.cli.jsontext import to_json
from unpacker.cli.progress import PLAIN_INTERVAL
from unpacker.cli.text import amount, count, duration, prefix
from unpacker.content.disk import ContentStore
from unpacker.errors import UsageError, quoted
from unpacker.events import BlobDone, BlobProgress, BlobStarted, BlobWaiting, CopyEvent, CopyPlanned, CopyReport, Warned
from unpacker.resolve import Reference
from unpacker.transfer import copy_image

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Copy the image."""
    limits = options.limits(arguments.limit)
    reference = Reference.parse(arguments.source)
    layout, name = _target(arguments.target)
    source = ContentStore(reference.layout)
    with Feedback.on_stderr(arguments) as feedback:
        report = copy_image(
            source,
            ContentStore(layout, create=True),
            reference,
            arguments.platform,
            name,
            replace=arguments.force,
            limits=limits,
            on_event=_Teller(feedback, arguments),
        )
        feedback.close()
        feedback.say(summary(report, layout))
    if arguments.format == "json":
        streams.emit(to_json({"code": "ok", "message": None, "hint": None, "exit_status": 0, **vars(report)}))
    return 0


class _Teller:
    """Says what happens, a line each; a large blob shows that it lives."""

    def __init__(self, feedback: Feedback, arguments: Namespace) -> None:
        self._feedback = feedback
        self._verbose = arguments.verbose
        self._silent = arguments.progress == "none"
        self._size = 0
        self._spoken = 0.0

    def __call__(self, event: CopyEvent) -> None:
        match event:
            case Warned():
                self._feedback.on_event(event)
            case _ if self._silent:
                return
            case CopyPlanned():
                self._feedback.say(f"copying {event.name}: {count(event.blobs, 'blob')}, {amount(event.size)}")
            case BlobWaiting():
                holder = "another process" if event.pid is None else f"process {event.pid}"
                self._feedback.say(f"blob {prefix(event.digest)}: waiting for {holder}, which copies it")
            case BlobStarted():
                self._size, self._spoken = event.size, time.monotonic()
            case BlobProgress() if time.monotonic() - self._spoken > PLAIN_INTERVAL:
                self._spoken = time.monotonic()
                self._feedback.say(f"blob {prefix(event.digest)}: {amount(event.done)} of {amount(self._size)}")
            case BlobDone() if self._verbose:
                how = "there already" if event.shared else amount(event.size)
                self._feedback.say(f"blob {prefix(event.digest)}: {how}")
            case _:
                return


def summary(report: CopyReport, layout: str) -> str:
    """Give what a copy did on one line."""
    name = report.name or report.targets[0]
    copied = f"{count(report.copied, 'blob')} copied ({amount(report.copied_bytes)})"
    shared = f"{report.shared:,} there already ({amount(report.shared_bytes)})"
    return f"imported {name} into {layout}: {copied}, {shared}, {duration(report.seconds)}"


def _target(text: str) -> tuple[str, str | None]:
    """Read ``LAYOUT[:TAG]``; a layout that is not there yet is what comes before the last colon of the last name."""
    path = text if os.path.lexists(text) else text.removeprefix("oci:")
    if any(os.path.isdir(path[:cut]) for cut in range(1, len(path) + 1) if path[cut : cut + 1] in ("", ":", "@")):
        reference = Reference.parse(text)
        layout, name, digest = reference.layout, reference.tag, reference.digest is not None
    else:
        layout, colon, tag = path.rpartition(":")
        digest = "@" in os.path.basename(layout)
        layout, name = (layout, tag) if colon and tag and "/" not in tag else (path, None)
    if digest:
        raise UsageError(f"target {quoted(text)}: a digest is no name", "write LAYOUT[:TAG]")
    return layout, name
