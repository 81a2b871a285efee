"""A layout against itself: every blob against the digest that is its name, every label against its blob."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpacker.archive.decompress import decompress
from unpacker.content.labels import UNCOMPRESSED
from unpacker.errors import LimitError, UnpackError, quoted
from unpacker.limits import DEFAULT, Limits
from unpacker.record import Record
from unpacker.spec.descriptor import Descriptor
from unpacker.spec.digest import Digest, InvalidDigestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpacker.content.disk import ContentStore
    from unpacker.content.store import Info


class BlobCheck(Record):
    """What a check of one blob has found."""

    digest: Digest
    size: int
    blob: str | None = None
    """What is wrong with its bytes."""
    labels: str | None = None
    """What is wrong with its labels."""
    unreadable: bool = False
    """Whether that is the file itself, and not only what the label ``containerd.io/uncompressed`` says."""


def check_blobs(store: ContentStore, limits: Limits = DEFAULT) -> Iterator[BlobCheck]:
    """Read every blob of a layout to its end.

    A label ``containerd.io/uncompressed`` is compared with what the blob decompresses to.  Labels are a convenience,
    and whoever unpacks believes none: one that is wrong misleads other programs.

    Raises:
        OSError: Something cannot be read.
    """
    for info in store.walk():
        labels = None if info.fault is None else str(info.fault)
        blob = _fault_of_bytes(store, info)
        if blob is None and UNCOMPRESSED in info.labels:
            labels = _fault_of_label(store, info, limits)
        yield BlobCheck(digest=info.digest, size=info.size, blob=blob, labels=labels, unreadable=info.fault is not None)


def _descriptor(info: Info) -> Descriptor:
    return Descriptor(media_type="application/octet-stream", digest=info.digest, size=info.size)


def _fault_of_bytes(store: ContentStore, info: Info) -> str | None:
    try:
        with store.blob(_descriptor(info)) as blob:
            blob.drain()
    except UnpackError as error:
        return str(error)
    return None


def _fault_of_label(store: ContentStore, info: Info, limits: Limits) -> str | None:
    text = info.labels[UNCOMPRESSED]
    try:
        wanted = Digest.parse(text)
        hasher = wanted.hasher()
        with store.blob(_descriptor(info)) as blob:
            for chunk in decompress(blob.read, limits):
                hasher.update(chunk)
    except LimitError as error:
        return f"blob {info.digest}: label {UNCOMPRESSED} not compared: {error}"
    except (InvalidDigestError, UnpackError) as error:
        return f"blob {info.digest}: label {UNCOMPRESSED} is {quoted(text)}: {error}"
    if hasher.hexdigest() == wanted.encoded:
        return None
    return f"blob {info.digest}: label {UNCOMPRESSED} is {wanted}, and it decompresses to {hasher.hexdigest()}"
