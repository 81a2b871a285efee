"""``unpacker snapshots --store DIR [FILTER ...]``: what is in a snapshot store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.cli import streams
from unpacker.cli.jsontext import to_json
from unpacker.cli.store.opening import open_store
from unpacker.cli.text import amount, printable, table
from unpacker.snapshots.record import to_text

if TYPE_CHECKING:
    from argparse import Namespace

    from unpacker.snapshots.base import StoreSnapshotter
    from unpacker.snapshots.snapshotter import Info


def run(arguments: Namespace) -> int:
    """List them."""
    with open_store(arguments) as snapshotter:
        rows = [_facts(snapshotter, info) for info in snapshotter.walk(*arguments.filters)]
    if arguments.format == "json":
        streams.emit(to_json({"code": "ok", "exit_status": 0, "snapshots": rows}))
    else:
        streams.emit(table(("KIND", "SIZE", "INODES", "CREATED", "NAME", "PARENT"), [_cells(row) for row in rows]))
    return 0


def _facts(snapshotter: StoreSnapshotter, info: Info) -> dict[str, object]:
    usage = snapshotter.usage(info.name)
    return {
        "name": info.name,
        "kind": info.kind.value,
        "parent": info.parent,
        "created": to_text(info.created),
        "updated": to_text(info.updated),
        "labels": dict(info.labels),
        "size": usage.size,
        "inodes": usage.inodes,
    }


def _cells(row: dict[str, object]) -> tuple[str, ...]:
    created = str(row["created"]).partition(".")[0] + "Z"
    size = amount(int(str(row["size"])))
    return (
        str(row["kind"]),
        size,
        f"{row['inodes']:,}",
        created,
        printable(str(row["name"])),
        printable(str(row["parent"] or "-")),
    )
