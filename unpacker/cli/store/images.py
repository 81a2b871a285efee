"""``unpacker images --store DIR``: which images a snapshot store keeps, and what each stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.cli import streams
from unpacker.cli.jsontext import to_json
from unpacker.cli.store.opening import open_store
from unpacker.cli.text import printable, table
from unpacker.errors import SnapshotNotFoundError, SnapshotStateError

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping

    from unpacker.snapshots.base import StoreSnapshotter


def run(arguments: Namespace) -> int:
    """List them."""
    with open_store(arguments) as snapshotter:
        images = sorted(snapshotter.catalog.images(), key=lambda image: image.get("name", ""))
        rows = [{**image, "unpacked": _is_unpacked(snapshotter, image["chain_id"])} for image in images]
    if arguments.format == "json":
        streams.emit(to_json({"code": "ok", "exit_status": 0, "images": rows}))
    else:
        streams.emit(table(("IMAGE", "PLATFORM", "UNPACKED", "CHAIN_ID"), [_cells(row) for row in rows]))
    return 0


def _is_unpacked(snapshotter: StoreSnapshotter, chain_id: str) -> bool:
    try:
        snapshotter.chain(chain_id)
    except (SnapshotNotFoundError, SnapshotStateError):
        return False
    return True


def _cells(row: Mapping[str, object]) -> tuple[str, str, str, str]:
    name, platform, chain_id = (printable(str(row.get(key, "-"))) for key in ("name", "platform", "chain_id"))
    return name, platform, "yes" if row["unpacked"] else "no", chain_id
