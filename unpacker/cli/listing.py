"""``unpacker list LAYOUT``: the images of a layout, one line each.

A layout may leave blobs out (image-layout.md, Blobs), and often does: one platform of many was fetched.  An image whose
documents are absent is listed with what its descriptor says.  A damaged document stops the listing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from unpacker.cli import options, streams
from unpacker.cli.jsontext import to_json
from unpacker.cli.text import amount, printable, table
from unpacker.content.layout import Layout
from unpacker.errors import BlobNotFoundError, LimitError
from unpacker.spec.documents import Config, Index, Manifest
from unpacker.spec.mediatypes import is_config, is_index, is_manifest
from unpacker.spec.platforms import Platform

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from unpacker.limits import Limits
    from unpacker.spec.descriptor import Descriptor
    from unpacker.spec.digest import Digest

_NAMES = ("org.opencontainers.image.ref.name", "io.containerd.image.name")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One image, or what else stands where an image may stand."""

    reference: str | None
    """The name in the layout's index."""
    digest: str
    """Digest of the manifest."""
    index: str | None
    """Digest of the index of the layout's index that leads to it, if one does."""
    media_type: str
    platform: str | None
    layers: int | None
    """Number of layers, None where the manifest is absent."""
    size: int | None
    """Bytes of manifest, config and layers together, None where the manifest is absent."""


def run(arguments: Namespace) -> int:
    """List the images."""
    limits = options.limits(arguments.limit)
    rows = list(images(Layout.open(arguments.layout), limits))
    if arguments.format == "json":
        streams.emit(to_json({"code": "ok", "exit_status": 0, "images": [asdict(row) for row in rows]}))
    else:
        streams.emit(_as_table(rows))
    return 0


def _as_table(rows: list[Row]) -> str:
    cells = [
        (
            printable(row.reference or "-"),
            printable(row.platform or "-"),
            "-" if row.layers is None else str(row.layers),
            "absent" if row.size is None else amount(row.size),
            row.digest,
        )
        for row in rows
    ]
    return table(("REFERENCE", "PLATFORM", "LAYERS", "SIZE", "DIGEST"), cells)


def images(layout: Layout, limits: Limits) -> Iterator[Row]:
    """Yield the images in the order of the index, those of an index in an index where it stands."""
    documents = _Documents(layout, limits)
    pending = [(descriptor, _name(descriptor), _Way()) for descriptor in reversed(layout.index(limits).manifests)]
    met = len(pending)
    while pending:
        descriptor, reference, way = pending.pop()
        if not is_index(descriptor.media_type):
            yield _row(documents, descriptor, reference, way)
            continue
        inner = documents.index(descriptor)
        if inner is None:
            yield _absent(descriptor, reference, way)
            continue
        met += len(inner)
        _check(limits, met=met, depth=way.depth + 1)
        below = _Way(top=way.top or str(descriptor.digest), depth=way.depth + 1)
        pending += [(child, reference, below) for child in reversed(inner)]


@dataclass(frozen=True, slots=True)
class _Way:
    """How an image was come by: the index in the layout's index, and how deep."""

    top: str | None = None
    depth: int = 0


def _name(descriptor: Descriptor) -> str | None:
    return next((descriptor.annotations[key] for key in _NAMES if key in descriptor.annotations), None)


def _check(limits: Limits, *, met: int, depth: int) -> None:
    if met > limits.index_manifests:
        raise LimitError(limit="index_manifests", allowed=limits.index_manifests, found=met, what="descriptors")
    if depth > limits.index_depth:
        raise LimitError(limit="index_depth", allowed=limits.index_depth, found=depth, what="indexes in indexes")


class _Documents:
    """The documents of a layout, each read once: an index may name the same few, of megabytes, ten thousand times."""

    def __init__(self, layout: Layout, limits: Limits) -> None:
        self._layout = layout
        self._limits = limits
        self._indexes: dict[tuple[Digest, str], tuple[Descriptor, ...] | None] = {}
        self._manifests: dict[tuple[Digest, str], _Facts | None] = {}
        self._platforms: dict[Digest, Platform | None] = {}

    def index(self, descriptor: Descriptor) -> tuple[Descriptor, ...] | None:
        """Give what an index holds; None if it is absent."""
        key = descriptor.digest, descriptor.media_type
        if key not in self._indexes:
            data = self._read(descriptor)
            found = (
                None
                if data is None
                else Index.parse(data, str(descriptor.digest), self._limits, media_type=descriptor.media_type)
            )
            self._indexes[key] = None if found is None else found.manifests
        return self._indexes[key]

    def manifest(self, descriptor: Descriptor) -> _Facts | None:
        """Give what a manifest says; None if it is absent."""
        key = descriptor.digest, descriptor.media_type
        if key not in self._manifests:
            data = self._read(descriptor)
            found = (
                None
                if data is None
                else Manifest.parse(data, str(descriptor.digest), self._limits, media_type=descriptor.media_type)
            )
            self._manifests[key] = None if found is None else _Facts.of(found)
        return self._manifests[key]

    def platform(self, descriptor: Descriptor) -> Platform | None:
        """Ask the config of an image whose descriptor does not say."""
        if not is_config(descriptor.media_type):
            return None
        if descriptor.digest not in self._platforms:
            data = self._read(descriptor)
            found = None if data is None else Config.parse(data, str(descriptor.digest), self._limits)
            self._platforms[descriptor.digest] = (
                None if found is None else Platform(os=found.os, architecture=found.architecture, variant=found.variant)
            )
        return self._platforms[descriptor.digest]

    def _read(self, descriptor: Descriptor) -> bytes | None:
        try:
            return self._layout.document(descriptor, self._limits)
        except BlobNotFoundError:
            return None


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a row shows of a manifest."""

    config: Descriptor
    layers: int
    size: int
    """Of the config and all layers together."""

    @classmethod
    def of(cls, manifest: Manifest) -> _Facts:
        size = manifest.config.size + sum(layer.size for layer in manifest.layers)
        return cls(manifest.config, len(manifest.layers), size)


def _row(documents: _Documents, descriptor: Descriptor, reference: str | None, way: _Way) -> Row:
    facts = documents.manifest(descriptor) if is_manifest(descriptor.media_type) else None
    if facts is None:
        return _absent(descriptor, reference, way)
    platform = descriptor.platform or documents.platform(facts.config)
    return Row(
        reference=reference,
        digest=str(descriptor.digest),
        index=way.top,
        media_type=descriptor.media_type,
        platform=None if platform is None else str(platform),
        layers=facts.layers,
        size=descriptor.size + facts.size,
    )


def _absent(descriptor: Descriptor, reference: str | None, way: _Way) -> Row:
    return Row(
        reference=reference,
        digest=str(descriptor.digest),
        index=way.top,
        media_type=descriptor.media_type,
        platform=None if descriptor.platform is None else str(descriptor.platform),
        layers=None,
        size=None,
    )
