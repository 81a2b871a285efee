"""``unpack LAYOUT[:TAG|@DIGEST] DEST``: one image to one directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.cli import options, streams
from unpacker.cli.feedback import Feedback
from unpacker.cli.jsontext import to_json
from unpacker.cli.parser import STORE_VARIABLE, store_of
from unpacker.errors import UsageError
from unpacker.tree.owners import IdMap
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from argparse import Namespace

    from unpacker.events import Report


def run(arguments: Namespace) -> int:
    """Unpack the image, say what was done."""
    limits = options.limits(arguments.limit)
    uid_map = [IdMap.parse(text) for text in arguments.uid_map]
    gid_map = [IdMap.parse(text) for text in arguments.gid_map]
    store = store_of(arguments)
    if arguments.link and store is None:
        raise UsageError("--link without a store: there is nothing to link to", f"--store DIR, or {STORE_VARIABLE}")
    with Feedback.on_stderr(arguments) as feedback:
        report = unpack(
            arguments.source,
            arguments.dest,
            platform=arguments.platform,
            force=arguments.force,
            owner=arguments.owner,
            uid_map=uid_map,
            gid_map=gid_map,
            strict=arguments.strict,
            keep_dirlinks=arguments.keep_dirlinks,
            labels=not arguments.no_labels,
            store=store,
            link=arguments.link,
            sync=not arguments.no_sync,
            jobs=options.jobs(arguments.jobs),
            limits=limits,
            on_event=feedback.on_event,
        )
        feedback.finish(report)
    if arguments.format == "json":
        streams.emit(to_json(as_dict(report)))
    return 0


def as_dict(report: Report) -> dict[str, object]:
    """Give a report as ``--format json`` prints it: as a failure, but for the facts."""
    return {"code": "ok", "message": None, "hint": None, "exit_status": 0, **vars(report)}
