"""The record of one staged layer: what its files alone do not say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unpacker.events import LossKind
    from unpacker.tree.directory import Directory


class Losses:
    """What could not be applied, counted by kind, with one example of each."""

    __slots__ = ("counts", "samples")

    def __init__(self) -> None:
        self.counts: dict[LossKind, int] = {}
        self.samples: dict[LossKind, tuple[bytes, str]] = {}

    def add(self, kind: LossKind, path: bytes, reason: str) -> None:
        """Count one."""
        count = self.counts.get(kind, 0)
        self.counts[kind] = count + 1
        if not count:
            self.samples[kind] = (path, reason)

    def update(self, other: Losses) -> None:
        """Count all of another record."""
        for kind, count in other.counts.items():
            if kind not in self.counts:
                self.samples[kind] = other.samples[kind]
            self.counts[kind] = self.counts.get(kind, 0) + count


class Changes:
    """What a layer asks of the layers below, and what staging it without them took for granted.

    Attributes:
        opaque: Paths of directories whose content below is hidden; the root's is empty.
        whiteouts: Paths that are hidden.
        assumed: Directories that were taken for such of the layers below, in the order of the entries, be they gone by
            now.  Where one of them is a symbolic link there, the staged tree is wrong.
        unresolved: Why the layer cannot be staged without the layers below at all; None if it could.
        skipped: Paths that would be devices if the caller might make them: hard links may mean them.
        losses: What could not be applied.
        entries: Tar entries read.
        tar_bytes: Decompressed bytes read.
        copied_bytes: Bytes of whole files in place of hard links.
    """

    __slots__ = (
        *("assumed", "copied_bytes", "entries", "losses", "opaque", "skipped", "tar_bytes", "unresolved", "whiteouts"),
    )

    def __init__(self) -> None:
        self.opaque: list[bytes] = []
        self.whiteouts: list[bytes] = []
        self.assumed: list[Directory] = []
        self.unresolved: str | None = None
        self.skipped: set[bytes] = set()
        self.losses = Losses()
        self.entries = 0
        self.tar_bytes = 0
        self.copied_bytes = 0
