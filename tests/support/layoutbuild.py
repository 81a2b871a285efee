"""Writes OCI image layouts from layers, whole or damaged, independently of the package (image-layout.md).

The usual case is one call, whose record knows every digest::

    built = write_layout(tmp_path / "layout", [layer(file("a"))])
    built.flip(built.images[0].layers[0].digest)        # damage a blob where it lies: its descriptor stays as it was

To break documents *consistently* (every digest right, the content wrong) give ``mutate``: a function that changes one
document before it is stored.  Several images, platforms and nested indexes: `LayoutBuilder`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import zstandard

Compression = Literal["none", "gzip", "zstd"]
Document = dict[str, Any]
DocumentName = Literal["config", "manifest", "index", "index.json"]
Mutate = Mapping[DocumentName, Callable[[Document], None]]
"""By the kind of document: what to do to it before it is stored."""
Embedded = Collection[Literal["config", "manifest", "layers"]]
"""What stands in its descriptor's ``data`` field, and not in a blob."""

REF_NAME = "org.opencontainers.image.ref.name"
OCI = {
    "index": "application/vnd.oci.image.index.v1+json",
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "none": "application/vnd.oci.image.layer.v1.tar",
    "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
    "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
}
DOCKER = {
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "none": "application/vnd.docker.image.rootfs.diff.tar",
    "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "zstd": "application/vnd.docker.image.rootfs.diff.tar.zstd",
}


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """Give the digest of some bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()}"


def compress(data: bytes, compression: Compression) -> bytes:
    """Compress, the same bytes each time."""
    if compression == "gzip":
        return gzip.compress(data, compresslevel=1, mtime=0)
    if compression == "zstd":
        return zstandard.ZstdCompressor(level=1).compress(data)
    return data


def on_platform(platform: str) -> Document:
    """Give a platform's JSON object from ``os/architecture[/variant]``."""
    return dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltLayer:
    """A layer as it was stored."""

    tar: bytes
    blob: bytes
    diff_id: str
    descriptor: Document

    @property
    def digest(self) -> str:
        """The digest of the blob."""
        return str(self.descriptor["digest"])


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltImage:
    """An image as it was stored."""

    layers: tuple[BuiltLayer, ...]
    config: Document
    config_descriptor: Document
    manifest: Document
    descriptor: Document
    """The descriptor of its manifest, with its platform if it was given one."""

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return str(self.descriptor["digest"])

    @property
    def config_digest(self) -> str:
        """The digest of the config."""
        return str(self.config_descriptor["digest"])

    @property
    def diff_ids(self) -> list[str]:
        """What the layers are, decompressed."""
        return [layer.diff_id for layer in self.layers]


@dataclass(slots=True)
class LayoutBuilder:
    """Writes a layout, piece by piece; `name` makes an image reachable."""

    path: Path
    docker: bool = False
    algorithm: str = "sha256"
    mutate: Mutate = field(default_factory=dict)
    images: list[BuiltImage] = field(default_factory=list)
    top: Document = field(default_factory=dict)
    """The document of ``index.json``."""

    def __post_init__(self) -> None:
        """Make an empty layout, which names no image."""
        self.path = Path(self.path)
        (self.path / "blobs" / self.algorithm).mkdir(parents=True)
        (self.path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
        self.top = {"schemaVersion": 2, "mediaType": OCI["index"], "manifests": []}
        self._write_top()

    @property
    def types(self) -> Mapping[str, str]:
        """The media types of this layout."""
        return DOCKER if self.docker else OCI

    # -- building ------------------------------------------------------------------------------------------------------

    def blob(self, media_type: str, data: bytes, *, embed: bool = False) -> Document:
        """Store a blob; give its descriptor."""
        digest = digest_of(data, self.algorithm)
        descriptor: Document = {"mediaType": media_type, "digest": digest, "size": len(data)}
        if embed:
            return {**descriptor, "data": base64.b64encode(data).decode()}
        self.blob_path(digest).write_bytes(data)
        return descriptor

    def document(self, name: DocumentName, media_type: str, content: Document, *, embed: bool = False) -> Document:
        """Store a JSON document, changed as ``mutate`` says; give its descriptor."""
        if name in self.mutate:
            self.mutate[name](content)
        return self.blob(media_type, json.dumps(content).encode(), embed=embed)

    def layer(self, tar: bytes, compression: Compression = "gzip", *, embed: bool = False) -> BuiltLayer:
        """Store a layer."""
        blob = compress(tar, compression)
        descriptor = self.blob(self.types[compression], blob, embed=embed)
        return BuiltLayer(tar=tar, blob=blob, diff_id=digest_of(tar, self.algorithm), descriptor=descriptor)

    def image(
        self,
        layers: Sequence[bytes | BuiltLayer],
        compression: Compression | Sequence[Compression] = "gzip",
        *,
        platform: str | None = "linux/amd64",
        embed: Embedded = (),
    ) -> BuiltImage:
        """Store an image.

        Args:
            layers: The tars, base first, or layers that are stored already.
            compression: One for all, or one for each.
            platform: ``os/architecture[/variant]``; None: its descriptor says none, and its config linux/amd64.
            embed: What is embedded in descriptors.
        """
        each = [compression] * len(layers) if isinstance(compression, str) else list(compression)
        stored = tuple(
            one if isinstance(one, BuiltLayer) else self.layer(one, how, embed="layers" in embed)
            for one, how in zip(layers, each, strict=True)
        )
        config: Document = {
            **on_platform(platform or "linux/amd64"),
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in stored]},
        }
        config_descriptor = self.document("config", self.types["config"], config, embed="config" in embed)
        manifest: Document = {
            "schemaVersion": 2,
            "mediaType": self.types["manifest"],
            "config": config_descriptor,
            "layers": [one.descriptor for one in stored],
        }
        descriptor = self.document("manifest", self.types["manifest"], manifest, embed="manifest" in embed)
        if platform is not None:
            descriptor["platform"] = on_platform(platform)
        built = BuiltImage(
            layers=stored,
            config=config,
            config_descriptor=config_descriptor,
            manifest=manifest,
            descriptor=descriptor,
        )
        self.images.append(built)
        return built

    def index(self, *members: BuiltImage | Document) -> Document:
        """Store an index of images, indexes or anything; give its descriptor."""
        descriptors = [one.descriptor if isinstance(one, BuiltImage) else one for one in members]
        content = {"schemaVersion": 2, "mediaType": self.types["index"], "manifests": descriptors}
        return self.document("index", self.types["index"], content)

    def name(self, member: BuiltImage | Document, tag: str | None = "latest") -> None:
        """Put an image or an index into ``index.json``."""
        descriptor = dict(member.descriptor if isinstance(member, BuiltImage) else member)
        if tag is not None:
            descriptor["annotations"] = {**descriptor.get("annotations", {}), REF_NAME: tag}
        self.top["manifests"].append(descriptor)
        self._write_top()

    def _write_top(self) -> None:
        content = json.loads(json.dumps(self.top))
        if "index.json" in self.mutate:
            self.mutate["index.json"](content)
        (self.path / "index.json").write_text(json.dumps(content))

    # -- damaging ------------------------------------------------------------------------------------------------------

    def blob_path(self, digest: str) -> Path:
        """Give the file of a blob."""
        return self.path / "blobs" / digest.replace(":", "/", 1)

    def flip(self, digest: str, offset: int = -1) -> None:
        """Invert one byte of a blob."""
        data = bytearray(self.blob_path(digest).read_bytes())
        data[offset] ^= 0xFF
        self.blob_path(digest).write_bytes(data)

    def truncate(self, digest: str, by: int = 1) -> None:
        """Take bytes off a blob's end."""
        os.truncate(self.blob_path(digest), self.blob_path(digest).stat().st_size - by)

    def extend(self, digest: str, data: bytes = b"\0") -> None:
        """Add bytes to a blob's end."""
        with self.blob_path(digest).open("ab") as blob:
            blob.write(data)

    def remove(self, digest: str) -> None:
        """Take a blob away."""
        self.blob_path(digest).unlink()


def write_layout(
    path: str | os.PathLike[str],
    layers: Sequence[bytes],
    *,
    compression: Compression | Sequence[Compression] = "gzip",
    docker: bool = False,
    tag: str | None = "latest",
    algorithm: str = "sha256",
    platform: str | None = "linux/amd64",
    nested: int = 0,
    embed: Embedded = (),
    mutate: Mutate | None = None,
) -> LayoutBuilder:
    """Write a layout that holds one image; the record has it as ``images[0]``.

    Args:
        path: A directory that is not there yet, or is empty.
        layers: The tars, base first.
        compression: One for all layers, or one for each.
        docker: Whether the media types are Docker's.
        tag: What ``index.json`` calls the image; None: nothing.
        algorithm: sha256 or sha512, for all digests.
        platform: ``os/architecture[/variant]``, of the config and of the manifest's descriptor; None: see `LayoutBuilder.image`.
        nested: How many indexes stand between ``index.json`` and the manifest.
        embed: What is embedded in descriptors, in place of blobs.
        mutate: What to change in documents before they are stored, all digests staying right.
    """
    builder = LayoutBuilder(Path(path), docker=docker, algorithm=algorithm, mutate=mutate or {})
    image = builder.image(layers, compression, platform=platform, embed=embed)
    member = image.descriptor
    for _ in range(nested):
        member = builder.index(member)
    builder.name(member, tag)
    return builder
