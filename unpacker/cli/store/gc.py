"""``unpacker gc --store DIR``: what nothing refers to goes from a snapshot store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.cli import streams
from unpacker.cli.jsontext import to_json
from unpacker.cli.store.opening import open_store
from unpacker.cli.text import amount, count
from unpacker.snapshots.gc import Collected, collect

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Collect, and say what that freed."""
    with open_store(arguments) as snapshotter:
        found = collect(snapshotter, dry_run=arguments.dry_run)
    if arguments.format == "json":
        streams.emit(to_json({"code": "ok", "exit_status": 0, "dry_run": arguments.dry_run, **_facts(found)}))
    else:
        streams.emit("".join(f"{record.name}\n" for record in found.removed))
        streams.say(_summary(found, dry_run=arguments.dry_run))
    return 0


def _facts(found: Collected) -> dict[str, object]:
    return {
        "removed": [record.name for record in found.removed],
        "freed_bytes": found.freed.size,
        "freed_inodes": found.freed.inodes,
        "kept": found.kept,
        "merged": found.merged,
        "leftovers": found.leftovers,
    }


def _summary(found: Collected, *, dry_run: bool) -> str:
    """Give one line: what went, and what stays."""
    what = f"{count(len(found.removed), 'snapshot')} ({amount(found.freed.size)}, {count(found.freed.inodes, 'inode')})"
    trees = f", {count(found.merged, 'merged tree')}" if found.merged else ""
    swept = f", {count(found.leftovers, 'leftover')}" if found.leftovers else ""
    return f"{'would remove' if dry_run else 'removed'} {what}{trees}{swept}; kept {count(found.kept, 'snapshot')}"
