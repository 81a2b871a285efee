"""``unpacker mounts LAYOUT[:TAG|@DIGEST] --store DIR``: how an image's tree is mounted, by whoever wants to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.cli import streams
from unpacker.cli.jsontext import to_json
from unpacker.cli.store.opening import open_store
from unpacker.cli.store.unpacked import unpacked
from unpacker.errors import UnsupportedError

if TYPE_CHECKING:
    from argparse import Namespace


def run(arguments: Namespace) -> int:
    """Print them."""
    with open_store(arguments, create=True) as snapshotter:
        name = unpacked(arguments, snapshotter)
        if name is None:
            raise UnsupportedError(subject=arguments.source, kind="image to mount", found="without layers")
        mounts = snapshotter.mounts(name)
    if arguments.format == "json":
        streams.emit(to_json([mount.as_dict() for mount in mounts]))
    else:
        from unpacker.snapshots.command import command  # noqa: PLC0415 -- shlex, for people only

        streams.emit(command(mounts, arguments.target) + "\n")
    return 0
