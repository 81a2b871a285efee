"""The ways in which an image becomes a tree: an image goes in, the tree and the counted losses come out.

Each of them makes one directory in an empty one that it is given, and for all that are by way of one, a store.  What
cannot be unpacked is `refused` in all of them, and leaves nothing but the store, which is as good as new.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.support.tree import Tree, read
from unpacker.errors import UnpackError
from unpacker.events import LossKind
from unpacker.image import Image
from unpacker.layer.rules import Rules
from unpacker.snapshots.mounting import temporary
from unpacker.snapshots.native import NativeSnapshotter
from unpacker.snapshots.overlay import OverlaySnapshotter
from unpacker.tree.attributes import KEPT_MODE
from unpacker.tree.owners import Owners
from unpacker.tree.probe import may_chown, umask
from unpacker.tree.remove import remove_at
from unpacker.unpacking import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from unpacker.snapshots.base import StoreSnapshotter

    Way = Callable[[str | Path, Path, bool], "Made"]
    """From an image, a directory to work in, and whether links to directories are kept."""


@contextmanager
def scratch() -> Iterator[Path]:
    """Give an empty directory; on btrfs a store keeps whole trees there, which `tempfile` alone could not remove."""
    path = Path(tempfile.mkdtemp(prefix="ways-"))
    parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield path
    finally:
        remove_at(parent, path.name)
        os.close(parent)


class Made(NamedTuple):
    """What came of an image."""

    tree: Tree
    losses: Mapping[LossKind, int]


def dest(source: str | Path, place: Path, keep_dirlinks: bool = False) -> Made:
    """Unpack straight to DEST: the layers are merged."""
    report = unpack(source, place / "dest", labels=False, keep_dirlinks=keep_dirlinks)
    return Made(read(place / "dest"), report.losses)


def copy(source: str | Path, place: Path, keep_dirlinks: bool = False) -> Made:
    """Unpack by way of a store: the layers stay apart, and DEST is a copy of what they add up to."""
    store = place / "overlay"
    report = unpack(source, place / "copy", labels=False, keep_dirlinks=keep_dirlinks, store=store, sync=False)
    return Made(read(place / "copy"), report.losses)


def again(source: str | Path, place: Path, keep_dirlinks: bool = False) -> Made:
    """Do the same once more, from what the store has; on btrfs that is the whole tree by now."""
    store = place / "overlay"
    report = unpack(source, place / "again", labels=False, keep_dirlinks=keep_dirlinks, store=store, sync=False)
    return Made(read(place / "again"), report.losses)


def linked(source: str | Path, place: Path, keep_dirlinks: bool = False) -> Made:
    """Do the same, with hard links into the store for a copy."""
    store = place / "overlay"
    report = unpack(
        source, place / "linked", labels=False, keep_dirlinks=keep_dirlinks, store=store, link=True, sync=False
    )
    return Made(read(place / "linked"), report.losses)


def native(source: str | Path, place: Path, keep_dirlinks: bool = False) -> Made:
    """Unpack into a store of whole trees, and look at the last of them where it lies."""
    with NativeSnapshotter(place / "native", sync=False) as snapshotter:
        name, losses = snapshot(source, snapshotter, keep_dirlinks=keep_dirlinks)
        return Made(as_meant(read(snapshotter.files(name))), losses)


def mounted(source: str | Path, place: Path, keep_dirlinks: bool = False) -> Made:
    """Unpack into a store of layers, and let the kernel put them together; for a mount namespace of one's own."""
    with OverlaySnapshotter(place / "overlay", sync=False) as snapshotter:
        name, losses = snapshot(source, snapshotter, keep_dirlinks=keep_dirlinks)
        return Made(mounted_snapshot(snapshotter, name), losses)


def mounted_snapshot(snapshotter: StoreSnapshotter, name: str) -> Tree:
    """Mount a snapshot, and read it as anybody would."""
    with temporary(snapshotter.mounts(name)) as root:
        return read(root)


def snapshot(
    source: str | Path, snapshotter: StoreSnapshotter, *, keep_dirlinks: bool = False
) -> tuple[str, Mapping[LossKind, int]]:
    """Unpack an image into a store; give the name of its last layer, and what was lost of all of them."""
    with snapshotter.catalog.staging() as place:
        owners = Owners(apply=may_chown(place.descriptor))
    rules = Rules(owners=owners, umask=umask(), keep_dirlinks=keep_dirlinks)
    records = Image.open(source).unpack(snapshotter, rules, labels=False)
    losses: Counter[LossKind] = Counter()
    for record in records:
        losses.update({LossKind(kind): count for kind, count in record.losses.items()})
    return records[-1].name, losses


def as_meant(tree: Tree) -> Tree:
    """Give a tree that lies in a store with the modes that it would have elsewhere (docs/formats.md)."""

    def meant(mode: int, xattrs: Mapping[bytes, bytes]) -> tuple[int, dict[bytes, bytes]]:
        kept = dict(xattrs)
        return (int(kept.pop(KEPT_MODE), 8) if KEPT_MODE in kept else mode), kept

    found = {path: (node, *meant(node.mode, node.xattrs)) for path, node in tree.items()}
    return {path: replace(node, mode=mode, xattrs=xattrs) for path, (node, mode, xattrs) in found.items()}


def made_or_refused(way: Way, source: str | Path, place: Path, *, keep_dirlinks: bool = False) -> Made | str:
    """Go one way; give what came of it, or why nothing did.

    Raises:
        AssertionError: A refusal has left something behind.
    """
    before = set(os.listdir(place))
    try:
        made = way(source, place, keep_dirlinks)
    except (UnpackError, OSError) as error:
        left = set(os.listdir(place)) - before
        assert left <= {"overlay", "native"}, f"a refusal leaves nothing behind: {left}"
        assert not any(os.listdir(place / store / "staging") for store in left), "nor anything in a store"
        return f"refused: {error!r}"
    more = set(os.listdir(place)) - before
    assert more <= {"dest", "copy", "again", "linked", "overlay", "native"}, "nor does anything else"
    return made
