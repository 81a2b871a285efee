"""``unpacker import LAYOUT[:TAG|@DIGEST] LAYOUT[:TAG]``: an image into another layout."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unpacker.cli import options, streams
from unpacker.cli.feedback import Feedback
from unpacker.cli.jsontext import to_json
from unpacker.cli.text import amount, count, duration
from unpacker.content.disk import ContentStore
from unpacker.errors import UsageError, quoted
from unpacker.resolve import Reference
from unpacker.transfer import copy_image

if TYPE_CHECKING:
    from argparse import Namespace

    from unpacker.events import CopyReport


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
            on_event=feedback.on_event,
        )
        feedback.close()
        feedback.say(summary(report, layout))
    if arguments.format == "json":
        streams.emit(to_json({"code": "ok", "message": None, "hint": None, "exit_status": 0, **vars(report)}))
    return 0


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
