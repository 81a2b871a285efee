"""Images from store to store: import and export.

An image is copied with all that it needs, blobs first and its name last, so that whoever finds the name finds the whole
image.  Documents go as they are, byte by byte: an index of which one platform was chosen still lists the others, whose
blobs are absent, as the specification allows (image-layout.md, Blobs).  Labels stay where they are: they are what one
store knows, and nothing that another should believe.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from unpacker.content.copying import copy_blob
from unpacker.content.names import check_name, names_of, replaced
from unpacker.errors import BlobNotFoundError, LimitError
from unpacker.events import (
    BlobDone,
    BlobProgress,
    BlobStarted,
    BlobWaiting,
    CopyPlanned,
    CopyReport,
    OnCopyEvent,
    Warned,
    ignore,
)
from unpacker.limits import DEFAULT, Limits
from unpacker.resolve import Reference, find, resolve
from unpacker.spec.digest import Digest, InvalidDigestError
from unpacker.spec.documents import Index, Manifest
from unpacker.spec.mediatypes import is_index, is_manifest
from unpacker.spec.platforms import Platform
from unpacker.tree.lock import FOREVER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpacker.content.store import Store
    from unpacker.spec.descriptor import Descriptor
    from unpacker.tree.lock import Holder

ALL = "all"


def copy_image(
    source: Store,
    target: Store,
    reference: Reference | str | None = None,
    platform: str | Platform | None = None,
    name: str | None = None,
    *,
    replace: bool = False,
    skip_missing: bool = False,
    wait: float = FOREVER,
    limits: Limits = DEFAULT,
    on_event: OnCopyEvent = ignore,
) -> CopyReport:
    """Copy an image; what the target has already is not copied.

    Args:
        source: Where it is.
        target: Where it should be.
        reference: Which image: its name, or a reference whose own layout is not used; None: the only one there is.
        platform: Which platform's, as for `unpacker.resolve.resolve`; ``"all"`` brings those of all platforms, and
            whatever else an index holds.
        name: What to call it; None: what it was called, and nothing if it was asked for by digest alone.
        replace: Whether the name may stand for something else until now.
        skip_missing: Whether manifests may be missing in the source if all platforms are wanted.
        wait: Seconds to wait for another process that copies the same blob.
        limits: How much the image may ask for.
        on_event: Told what happens, in this thread.

    Raises:
        UnpackError: The image is not found, not whole, or not what it is said to be, see `unpacker.resolve.resolve`; or
            the name is taken.  Blobs that were copied stay; nothing refers to them yet.
        OSError: A system call failed.  The next attempt goes on from there.
    """
    started = time.monotonic()
    asked = _reference(reference)
    called, roots = find(source, asked, limits)
    chosen: Digest | None = None
    if platform != ALL:
        wanted = Platform.parse(platform) if isinstance(platform, str) else platform
        image = resolve(source, asked, wanted, limits, lambda event: _warn(event, on_event))
        roots, chosen = [image.target], image.manifest_descriptor.digest
    plan = _Plan(source, limits, chosen, skip_missing=skip_missing)
    plan.follow(roots)
    name = name or called or (None if asked.digest else next(iter(names_of(roots[0])), None))
    check_name(name, roots)
    # Sooner than after gigabytes; it is looked at again in the end.
    replaced(_place(target), target.index(limits).manifests, name, roots, force=replace)
    on_event(plan.told(name, roots))
    copied = [_copy(source, target, blob, wait, on_event) for blob in plan.blobs]
    target.names.add(name, *roots, replace=replace)
    done = [(blob.size, new) for blob, new in zip(plan.blobs, copied, strict=True)]
    return CopyReport(
        name=name,
        targets=tuple(str(root.digest) for root in roots),
        copied=sum(new for _, new in done),
        copied_bytes=sum(size for size, new in done if new),
        shared=sum(not new for _, new in done),
        shared_bytes=sum(size for size, new in done if not new),
        absent=tuple(plan.absent),
        seconds=time.monotonic() - started,
    )


class _Plan:
    """All that belongs to an image, and in which order it is copied.

    Attributes:
        absent: What is not in the source, and need not be.
    """

    def __init__(self, source: Store, limits: Limits, chosen: Digest | None, *, skip_missing: bool) -> None:
        self._source = source
        self._limits = limits
        self._chosen = chosen
        self._skip_missing = skip_missing
        self._leaves: dict[Digest, Descriptor] = {}
        self._manifests: dict[Digest, Descriptor] = {}
        self._indexes: dict[Digest, Descriptor] = {}
        self.absent: dict[str, None] = {}

    @property
    def blobs(self) -> list[Descriptor]:
        """Every blob once: what documents name comes before the documents, so that no reference is ever dangling."""
        return [*self._leaves.values(), *self._manifests.values(), *reversed(self._indexes.values())]

    def told(self, name: str | None, roots: Sequence[Descriptor]) -> CopyPlanned:
        """Say what is to come."""
        blobs, target = self.blobs, str(roots[0].digest)
        return CopyPlanned(name=name or target, target=target, blobs=len(blobs), size=sum(blob.size for blob in blobs))

    def follow(self, roots: Sequence[Descriptor]) -> None:
        """Find all that indexes and manifests lead to, and verify these."""
        pending = [(root, 1) for root in reversed(roots)]
        met = len(pending)
        while pending:
            descriptor, depth = pending.pop()
            if descriptor.digest in self._indexes or descriptor.digest in self._manifests:
                continue
            try:
                found = self._look(descriptor, depth)
            except BlobNotFoundError:
                # A platform that was chosen has been found, so what is missing belongs to another one.
                if descriptor in roots or not (self._skip_missing or self._chosen):
                    raise
                self.absent[str(descriptor.digest)] = None
                continue
            met += len(found)
            _check("index_manifests", self._limits.index_manifests, met, f"{descriptor.digest}: descriptors so far")
            pending += [(each, depth + 1) for each in reversed(found)]

    def _look(self, descriptor: Descriptor, depth: int) -> Sequence[Descriptor]:
        """Take one descriptor in; give what else to look at."""
        kind, name = descriptor.media_type, str(descriptor.digest)
        if is_index(kind):
            _check("index_depth", self._limits.index_depth, depth, f"{name}: indexes inside indexes")
            data = self._source.document(descriptor, self._limits)
            index = Index.parse(data, name, self._limits, media_type=kind)
            self._indexes[descriptor.digest] = descriptor
            return index.manifests
        if self._chosen is not None and self._chosen != descriptor.digest:
            return ()
        if is_manifest(kind):
            data = self._source.document(descriptor, self._limits)
            manifest = Manifest.parse(data, name, self._limits, media_type=kind)
            self._manifests[descriptor.digest] = descriptor
            for blob in (*manifest.layers, manifest.config):
                self._leaves.setdefault(blob.digest, blob)
        else:
            self._source.reader(descriptor).close()
            self._leaves.setdefault(descriptor.digest, descriptor)
        return ()


def _copy(source: Store, target: Store, descriptor: Descriptor, wait: float, on_event: OnCopyEvent) -> bool:
    """Copy one blob, and tell."""
    digest = str(descriptor.digest)

    def waiting(holder: Holder) -> None:
        on_event(BlobWaiting(digest=digest, pid=holder.pid, since=holder.since))

    def progress(done: int) -> None:
        on_event(BlobProgress(digest=digest, done=done))

    on_event(BlobStarted(digest=digest, size=descriptor.size))
    copied = copy_blob(source, target, descriptor, wait=wait, on_wait=waiting, on_progress=progress)
    on_event(BlobDone(digest=digest, size=descriptor.size, shared=not copied))
    return copied


def _reference(reference: Reference | str | None) -> Reference:
    """Read a reference without a layout: ``TAG``, ``TAG@DIGEST`` or ``@DIGEST``."""
    if isinstance(reference, Reference):
        return reference
    tag, at, encoded = (reference or "").rpartition("@")
    if at:
        with suppress(InvalidDigestError):  # A name may hold an at sign.
            return Reference("", tag or None, Digest.parse(encoded))
    return Reference("", reference)


def _place(store: Store) -> str:
    return os.fspath(store) if isinstance(store, os.PathLike) else str(store)


def _warn(event: object, on_event: OnCopyEvent) -> None:
    if isinstance(event, Warned):
        on_event(event)


def _check(limit: str, allowed: int, found: int, what: str) -> None:
    if found > allowed:
        raise LimitError(limit=limit, allowed=allowed, found=found, what=what)
