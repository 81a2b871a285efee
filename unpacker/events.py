"""What happens during an unpack, as typed values: the command line draws them, a library caller may log them.

Events come in the calling thread, in order, from `unpacker.unpack` through its ``on_event`` argument.  A callback that
raises stops the unpack, and nothing is left behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStarted:
    """A layer's blob is about to be read."""

    index: int
    digest: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProgress:
    """More of a layer's blob has been read; comes often."""

    index: int
    done: int
    """Bytes of the stored blob read so far, of this layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerApplied:
    """A layer is verified to the end of its stream and staged."""

    index: int
    digest: str
    diff_id: str
    entries: int
    """Tar entries read."""
    size: int
    """Decompressed bytes of the layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something odd that does not change the result, in one sentence."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Something of one entry could not be applied."""

    kind: LossKind
    path: bytes
    reason: str


Event = Resolved | LayerStarted | LayerProgress | LayerApplied | Warned | Lost
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Do nothing with an event: the default listener."""


@dataclass(slots=True, kw_only=True)
class Report:
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
    losses: dict[LossKind, int] = field(default_factory=dict)
    """How many entries lost something, by kind."""
    loss_samples: dict[LossKind, str] = field(default_factory=dict)
    """One sentence an example for each kind of loss."""
    warnings: list[str] = field(default_factory=list)
