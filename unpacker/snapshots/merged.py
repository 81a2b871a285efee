"""Merged trees: what the layers of an image add up to, kept in a store, so that the next DEST is made by one call.

Only where the filesystem copies whole trees (`unpacker.tree.subvolume`).  They lie in the directory of the image's last
snapshot, and go when it goes::

    snapshots/<alg>/<hex>/merged/
      fs/                           a read-only subvolume, whose root is 0700
      merged.json                   how it was made, in which state it was left, what it lacks

Nobody locks anything to copy one.  Whoever removes one renames it first: so if it has its name still after it was
copied, all of it was there.  And in the state that it was left in it is only if nobody has written to it since.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from unpacker.content.blob import read_regular
from unpacker.errors import UnpackError
from unpacker.limits import DEFAULT
from unpacker.record import Record
from unpacker.snapshots.catalog import opened
from unpacker.snapshots.record import from_file, losses_of, path_from_text, path_to_text, to_file
from unpacker.tree import subvolume
from unpacker.tree.remove import remove_at
from unpacker.tree.sync import sync_filesystem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unpacker.snapshots.catalog import Catalog
    from unpacker.spec.strictjson import Value
    from unpacker.tree.private import Private

MERGED = "merged"
FILES = "fs"
_RECORD = "merged.json"
_MODES = 0o7777
_PAIR = 2


class Merged(Record):
    """The record of one."""

    made_by: str
    """By which rules, and by whom: other ones would make another tree."""
    mode: int
    """Of the root, which has another one in the store."""
    losses: Mapping[str, int] = {}
    """What could not be applied, by kind, in all layers and when they were merged."""
    samples: Mapping[str, tuple[bytes, str]] = {}
    """Of each kind a path, and why."""
    state: str = ""
    """See `unpacker.tree.subvolume.state`."""

    def as_json(self) -> bytes:
        """Give the file's content."""
        document = {
            "madeBy": self.made_by,
            "mode": self.mode,
            "losses": dict(self.losses),
            "samples": {kind: [path_to_text(path), reason] for kind, (path, reason) in self.samples.items()},
            "state": self.state,
        }
        return to_file(document)

    @classmethod
    def parse(cls, data: bytes, source: str) -> Merged:
        """Read the file's content.

        Raises:
            DocumentError: It is damaged.
        """
        document = from_file(data, source)
        samples = document.required("samples")
        return cls(
            made_by=document.required("madeBy").text(),
            mode=document.required("mode").integer(0, _MODES),
            losses=losses_of(document.required("losses")),
            samples={kind: _sample(samples.required(kind)) for kind in samples.object()},
            state=document.required("state").text(),
        )


def _sample(value: Value) -> tuple[bytes, str]:
    texts = value.strings()
    if len(texts) != _PAIR:
        raise value.error("a path and a reason")
    return path_from_text(texts[0]), texts[1]


def is_there(catalog: Catalog, name: str) -> bool:
    """Whether a merged tree is kept beside a snapshot, be it what it was or not."""
    return os.path.lexists(path(catalog, name))


def take(catalog: Catalog, name: str, made_by: str, directory: int, new: bytes) -> Merged | None:
    """Let a copy of a merged tree appear in a directory, under a new name.

    Args:
        catalog: The store.
        name: Of the snapshot.
        made_by: As what is wanted would be made.
        directory: Descriptor of the directory.
        new: The name.

    Returns:
        What is known of it; None if there is none that can be copied there.

    Raises:
        OSError: The copy failed.
    """
    where = path(catalog, name)
    with suppress(FileNotFoundError, NotADirectoryError, UnpackError):
        merged = _read(where)
        if merged.made_by != made_by:
            return None
        with opened(os.path.join(where, FILES)) as source:
            if not subvolume.snapshot(source, directory, new):
                return None
            if not _fault(where, merged, source):
                return merged
            remove_at(directory, new)
    return None


def keep(catalog: Catalog, name: str, place: Private, merged: Merged) -> bool:
    """Let a merged tree appear in a store, in place of one that is there; False if its snapshot is not.

    Args:
        catalog: The store.
        name: Of the snapshot.
        place: Where the tree is made, as a subvolume named `FILES`, which has been copied, so that it is on the disk.
        merged: What is known of it, but for its state.

    Raises:
        OSError: That failed.
    """
    with opened(os.path.join(f"/proc/self/fd/{place.descriptor}", FILES)) as tree:
        subvolume.set_writable(tree, writable=False)
        merged = merged.changed(state=subvolume.state(tree) or "")
    catalog.write_file(place.descriptor, _RECORD, merged.as_json())
    with catalog.staging() as old, catalog.lock("gc"):
        if catalog.committed(name) is None:
            return False
        where = path(catalog, name)
        if os.path.lexists(where):
            catalog.take(where, old)
        catalog.attach(place, where)
    return True


def fault(catalog: Catalog, name: str) -> str:
    """Say what is wrong with the merged tree of a snapshot; nothing if nothing is, or if there is none."""
    if not is_there(catalog, name):
        return ""
    where = path(catalog, name)
    try:
        merged = _read(where)
        with opened(os.path.join(where, FILES)) as tree:
            sync_filesystem(tree)  # what was written counts when it is on the disk
            return _fault(where, merged, tree)
    except (FileNotFoundError, NotADirectoryError) as error:
        return f"has no {os.path.basename(error.filename)}"
    except UnpackError as error:
        return str(error).removeprefix(f"{where}/")


def path(catalog: Catalog, name: str) -> str:
    """Give the directory of the merged tree of a snapshot, be there one or not."""
    return os.path.join(catalog.path(name), MERGED)


def _read(where: str) -> Merged:
    record = os.path.join(where, _RECORD)
    return Merged.parse(read_regular(record, DEFAULT.document_bytes, "document_bytes"), record)


def _fault(where: str, merged: Merged, tree: int) -> str:
    """Say why the tree of a record, open at its root, may be anything; nothing if it is what was made."""
    if subvolume.state(tree) != merged.state:
        return "is not in the state in which it was left"
    try:
        found = os.stat(os.path.join(where, FILES), follow_symlinks=False)
    except FileNotFoundError:
        return "is being removed"
    return "" if os.path.samestat(found, os.fstat(tree)) else "is being removed"
