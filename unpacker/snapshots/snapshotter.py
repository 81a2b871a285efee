"""What a snapshotter is: the vocabulary, and the protocol that each of them keeps (containerd's ``Snapshotter``).

A *snapshot* is a directory tree under a name.  A *committed* one never changes; one that comes from an image is what a
chain of layers adds up to, and its name is the chain_id.  An *active* one is being written to; it begins as its
*parent*, a committed one, and has a *key* until `commit` gives it a name.  A *view* is an active one that nobody writes
to.  The life of a layer::

    mounts = snapshotter.prepare("work", parent)    # an active snapshot, with the tree of the parent in it
    ...                                             # write to where the mounts lead
    snapshotter.commit(name, "work")                # "work" is gone, `name` is there for ever
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from unpacker.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from unpacker.layer.apply import Stage
    from unpacker.layer.changes import Changes
    from unpacker.snapshots.mounts import Mount
    from unpacker.spec.digest import Digest
    from unpacker.tree.attributes import OnLoss
    from unpacker.tree.directory import Tree
    from unpacker.tree.private import Private


class Kind(StrEnum):
    """What may be done with a snapshot."""

    ACTIVE = "active"
    VIEW = "view"
    COMMITTED = "committed"


class Info(Record):
    """What is known of a snapshot."""

    name: str
    """Its name, or the key of one that is not committed."""
    kind: Kind
    parent: str | None
    created: int
    """Nanoseconds since 1970."""
    updated: int
    """Nanoseconds since 1970."""
    labels: Mapping[str, str] = {}


class Usage(Record):
    """What a snapshot takes, without its parents."""

    inodes: int
    size: int
    """Bytes on disk."""


class LayerSource(Record):
    """A layer that is to become a snapshot."""

    chain_id: Digest
    diff_id: Digest
    blob: Digest
    stage: Stage
    take: Callable[[Private, bytes], tuple[Tree, Changes] | None]
    """Moves it to a name in a private place, if it has been staged ahead."""
    on_loss: OnLoss
    """Told of what is lost when it has been staged."""


class Snapshotter(Protocol):
    """Keeps snapshots."""

    def stat(self, name: str) -> Info:
        """Give what is known of a snapshot.

        Raises:
            SnapshotNotFoundError: There is none of this name or key.
        """

    def update(self, info: Info, *fieldpaths: str) -> Info:
        """Change the labels of a snapshot: all of them, or with ``labels.KEY`` only those (an empty value deletes).

        Raises:
            UsageError: A field path names something else, which nobody can change.
        """

    def usage(self, name: str) -> Usage:
        """Give what a snapshot takes, without its parents."""

    def mounts(self, key: str) -> list[Mount]:
        """Give how to mount an active snapshot or a view."""

    def prepare(self, key: str, parent: str | None = None, labels: Mapping[str, str] | None = None) -> list[Mount]:
        """Make an active snapshot.

        Raises:
            SnapshotExistsError: The key is taken.
            SnapshotNotFoundError: There is no such parent.
            SnapshotStateError: The parent is not committed.
        """

    def view(self, key: str, parent: str | None = None, labels: Mapping[str, str] | None = None) -> list[Mount]:
        """Make a view; raises as `prepare`."""

    def commit(self, name: str, key: str, labels: Mapping[str, str] | None = None) -> None:
        """Give an active snapshot its name, after which it never changes.

        Raises:
            SnapshotExistsError: The name is taken.
            SnapshotNotFoundError: There is no such key.
            SnapshotStateError: It is a view.
        """

    def remove(self, name: str) -> None:
        """Remove a snapshot.

        Raises:
            SnapshotNotFoundError: There is none of this name or key.
            SnapshotStateError: It has a child.
        """

    def walk(self, *filters: str) -> Iterator[Info]:
        """Give all snapshots that a filter matches."""

    def cleanup(self) -> int:
        """Remove what killed processes have left; give how many things that were."""

    def close(self) -> None:
        """Close it; fine to call twice."""
