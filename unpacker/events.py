"""What happens during an unpack or a copy, as typed values: the command line draws them, a caller may log them.

Events come in the calling thread, in order, from `unpacker.unpack` through its ``on_event`` argument.  A callback that
raises stops the unpack, and nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from unpacker.record import Record


class LossKind(StrEnum):
    """Kinds of what a destination may be unable to hold."""

    OWNER = "owner"
    """uid or gid not applied: the caller may not chown."""
    DEVICE = "device"
    """a device node not made: the caller may not mknod."""
    XATTR = "xattr"
    """an extended attribute refused by the filesystem or to the caller."""
    MODE = "mode"
    """mode bits that did not stay."""
    LINK = "link"
    """a hard link that became a copy: the filesystem has no (more) hard links."""
    MTIME = "mtime"
    """a time outside of what the filesystem can hold."""


class Resolved(Record):
    """The image is chosen and its documents are verified; layers come next."""

    name: str
    """What the image is called: its reference, or its digest."""
    manifest: str
    """Digest of the manifest."""
    platform: str
    """``os/architecture[/variant]`` as its config says."""
    layers: int
    """Number of layers."""
    size: int
    """Bytes of all layer blobs together, as stored."""


class LayerStarted(Record):
    """A layer's blob is about to be read."""

    index: int
    digest: str
    size: int


class LayerProgress(Record):
    """More of a layer's blob has been read; comes often."""

    index: int
    done: int
    """Bytes of the stored blob read so far, of this layer."""


class LayerApplied(Record):
    """A layer is verified to the end of its stream and staged."""

    index: int
    digest: str
    diff_id: str
    entries: int
    """Tar entries read."""
    size: int
    """Decompressed bytes of the layer."""


class LayerReused(Record):
    """A layer is in the snapshot store already, and not read again."""

    index: int
    digest: str
    chain_id: str
    size: int
    """Bytes of its blob, which count as done."""


class Waiting(Record):
    """Another process is unpacking a layer into the same store; this one waits for it."""

    index: int
    digest: str
    pid: int | None
    """Which process, if it said so."""
    since: str | None
    """Since when, in RFC 3339."""


class Warned(Record):
    """Something odd that does not change the result, in one sentence."""

    message: str


class Lost(Record):
    """Something of one entry could not be applied.

    Each that the report counts is told once, but for those of layers that a store has already.  A layer that has to be
    staged again, with those below it in view, may make up for one.
    """

    kind: LossKind
    path: bytes
    reason: str


Event = Resolved | LayerStarted | LayerProgress | LayerApplied | LayerReused | Waiting | Warned | Lost
OnEvent = Callable[[Event], None]


def ignore(event: object) -> None:
    """Do nothing with an event: the default listener."""


class Report(Record):
    """What an unpack did, for the caller who wants it after the fact."""

    name: str
    manifest: str
    platform: str
    dest: str
    layers: int
    entries: int = 0
    """Tar entries applied, over all layers."""
    blob_bytes: int = 0
    """Bytes of the layer blobs as stored."""
    tar_bytes: int = 0
    """Bytes of the layers decompressed."""
    seconds: float = 0.0
    """Wall time of the whole unpack."""
    chain_id: str | None = None
    """ChainID of the top layer (config.md), None for an image without layers."""
    losses: Mapping[LossKind, int] = {}
    """How many entries lost something, by kind.

    A directory of which several layers have entries counts once in DEST; by way of a store once for each of them, since
    a layer there belongs to many images, and says what it has lost itself.
    """
    loss_samples: Mapping[LossKind, str] = {}
    """One sentence an example for each kind of loss."""
    warnings: tuple[str, ...] = ()


# -- copying images from store to store --------------------------------------------------------------------------------


class CopyPlanned(Record):
    """What belongs to the image is known and its documents are verified; the blobs come next."""

    name: str
    """What it is called where it comes from: its reference, or its digest."""
    target: str
    """Digest of the index or the manifest that the name stands for."""
    blobs: int
    """How many blobs there are, each counted once."""
    size: int
    """Bytes of all of them together."""


class BlobStarted(Record):
    """A blob is about to be copied."""

    digest: str
    size: int


class BlobProgress(Record):
    """More of a blob is there, and hashed; comes often."""

    digest: str
    done: int
    """Bytes so far, those of an earlier attempt among them."""


class BlobWaiting(Record):
    """Another process is bringing the same blob into the same store; this one waits for it."""

    digest: str
    pid: int | None
    """Which process, if it said so."""
    since: str | None
    """Since when, in RFC 3339."""


class BlobDone(Record):
    """A blob is in the store, verified."""

    digest: str
    size: int
    shared: bool
    """Whether it was there already."""


CopyEvent = CopyPlanned | BlobStarted | BlobProgress | BlobWaiting | BlobDone | Warned
OnCopyEvent = Callable[[CopyEvent], None]


class CopyReport(Record):
    """What a copy did."""

    name: str | None
    """What the image is called now."""
    targets: tuple[str, ...]
    """Digests of what the name stands for: an index or a manifest, or several for several platforms."""
    copied: int = 0
    """Blobs that were copied."""
    copied_bytes: int = 0
    shared: int = 0
    """Blobs that were there already."""
    shared_bytes: int = 0
    absent: tuple[str, ...] = ()
    """Digests of manifests and indexes that the image names and the source does not have, if that was allowed."""
    seconds: float = 0.0
    """Wall time."""
