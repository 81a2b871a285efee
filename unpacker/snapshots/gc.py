"""Garbage collection: what nothing refers to any more goes, by mark and sweep, beside running unpacks.

What is kept, and all that it stands on:

- what an image of the store stands for;
- what a running process holds a lease on, be it there already or still to come;
- active snapshots and views: somebody may write to them, or have them mounted;
- snapshots with the label ``containerd.io/gc.root``;
- what a snapshot that is kept names in a label ``containerd.io/gc.ref.snapshot.KIND`` (or ``….KIND/anything``), where
  KIND is the store's own: containerd's rule.

A merged tree (`unpacker.snapshots.merged`) is kept only for what is named itself: for the rest nobody will ask.

A record that cannot be read stops it all, as nobody knows what it refers to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.record import Record
from unpacker.snapshots import merged
from unpacker.snapshots.snapshotter import Kind, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from unpacker.snapshots.base import StoreSnapshotter
    from unpacker.snapshots.catalog import Catalog
    from unpacker.snapshots.record import SnapshotRecord

ROOT = "containerd.io/gc.root"
REFERENCE = "containerd.io/gc.ref.snapshot."


class Collected(Record):
    """What a collection has removed, or would remove."""

    removed: tuple[SnapshotRecord, ...]
    """Those that stand on others first."""
    kept: int
    """Snapshots that stay, active ones among them."""
    merged: int
    """Merged trees of snapshots that stay."""
    leftovers: int
    """Things that killed processes had left."""

    @property
    def freed(self) -> Usage:
        """What that gives back to the disk; shared blocks (reflinks, hard links) are counted, and stay in use."""
        usages = [record.usage for record in self.removed if record.usage is not None]
        return Usage(inodes=sum(usage.inodes for usage in usages), size=sum(usage.size for usage in usages))


def collect(snapshotter: StoreSnapshotter, *, dry_run: bool = False) -> Collected:
    """Remove the snapshots that nothing refers to.

    Nobody begins to use a snapshot while this decides; taking the files away comes after that, and stops nobody.

    Args:
        snapshotter: The store.
        dry_run: Remove nothing, and say what would be.

    Raises:
        DocumentError: A record, or what is kept of an image, is damaged.
        OSError: Something cannot be removed.
    """
    catalog = snapshotter.catalog
    leftovers = 0 if dry_run else snapshotter.cleanup()
    with catalog.staging() as place, catalog.lock("gc"):
        records = {record.name: record for record in catalog.records()}
        roots = set(_roots(catalog, records.values()))
        kept = reachable(records, roots, snapshotter.kind)
        removed = [records[name] for name in _top_down(records) if name not in kept]
        trees = [name for name in records if name in kept - roots and merged.is_there(catalog, name)]
        if not dry_run:
            for number, record in enumerate(removed):
                catalog.take(catalog.path(record.name), place, str(number))
            for number, name in enumerate(trees):
                catalog.take(merged.path(catalog, name), place, f"{merged.MERGED} {number}")
    # Leaving the private place removes what was taken there.
    return Collected(removed=tuple(removed), kept=len(records) - len(removed), merged=len(trees), leftovers=leftovers)


def reachable(records: Mapping[str, SnapshotRecord], roots: Iterable[str], kind: str) -> set[str]:
    """Give what the roots lead to, the roots included, there or not."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if name in records:
            waiting += _references(records[name], kind)
    return found


def _references(record: SnapshotRecord, kind: str) -> Iterator[str]:
    if record.parent is not None:
        yield record.parent
    for key, value in record.labels.items():
        if key.startswith(REFERENCE) and key.removeprefix(REFERENCE).partition("/")[0] == kind:
            yield value


def _roots(catalog: Catalog, records: Iterable[SnapshotRecord]) -> Iterator[str]:
    yield from catalog.leased()
    for image in catalog.images():
        yield image["chain_id"]
    for record in records:
        if record.kind is not Kind.COMMITTED or ROOT in record.labels:
            yield record.name


def _top_down(records: Mapping[str, SnapshotRecord]) -> Sequence[str]:
    """Put those that stand on others first: a kill in the middle leaves none without its parent."""
    depths: dict[str, int] = {}
    for name in records:
        chain = [name]
        while chain[-1] not in depths and (parent := _parent(records, chain[-1])) is not None and parent not in chain:
            chain.append(parent)
        depth = depths.get(chain[-1], 0)
        for at, each in enumerate(reversed(chain)):
            depths[each] = depth + at
    return sorted(records, key=lambda name: -depths[name])


def _parent(records: Mapping[str, SnapshotRecord], name: str) -> str | None:
    return records[name].parent if name in records else None
